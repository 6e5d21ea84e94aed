(* T6. Why scores inflate at all. *)
From Refrm Require Import Common T05.

(* The weights of a linear model follow minus the gradient of the loss L (lambda = 0). *)
(* begin: weights_flow *)
Definition weights_flow (N p : nat) (eps : R) (m : nat -> R) (x_w x_l : nat -> nat -> R)
    (theta : R -> nat -> R) :=
  let L := linear N 0 eps m p x_w x_l in
  forall t k, 0 <= t -> (k < p)%nat ->
  is_derive (fun t => theta t k) t (- partial L k (theta t)).
(* end: weights_flow *)

(* Then the mean of s moves at (2/N) sum_i p_i phi_bar . (x_w_i - x_l_i), p = sigma(-(d - m)) - eps, phi_bar the mean of
   all 2 N feature vectors. (The mean score is half of the mean of s.) *)
(* begin: T6_drift *)
Theorem T6_drift (N p : nat) (eps : R) (m : nat -> R) (x_w x_l : nat -> nat -> R)
    (theta : R -> nat -> R) (t : R) :
  (0 < N)%nat -> weights_flow N p eps m x_w x_l theta -> 0 <= t ->
  let r_w := fun t i => score p (theta t) (x_w i) in
  let r_l := fun t i => score p (theta t) (x_l i) in
  let phi_bar := fun k => sum N (fun i => x_w i k + x_l i k) / (2 * INR N) in
  is_derive (fun t => mean N (fun i => r_w t i + r_l t i)) t
    (2 / INR N * sum N (fun i =>
      (sigmoid (- (r_w t i - r_l t i - m i)) - eps)
        * sum p (fun k => phi_bar k * (x_w i k - x_l i k)))).
(* end: T6_drift *)
Proof.
  intros HN F Ht r_w r_l phi_bar.
  set (v := fun k => - partial (linear N 0 eps m p x_w x_l) k (theta t)).
  assert (D : forall x, is_derive (fun t => score p (theta t) x) t (score p v x))
    by (intros x; apply is_derive_score; intros k Hk; now apply F).
  eapply is_derive_eq.
  { apply (is_derive_mean N (fun i t => r_w t i + r_l t i) t (fun i => score p v (x_w i) + score p v (x_l i))).
    intros i _. apply is_derive_Rplus; apply D. }
  set (q := fun i => sigmoid (- (r_w t i - r_l t i - m i)) - eps).
  assert (V : forall k, (k < p)%nat -> v k = mean N (fun i => q i * (x_w i k - x_l i k))).
  { intros k Hk. unfold v. rewrite partial_linear by easy. unfold gradient. rewrite Rmult_0_l, Rplus_0_r, <- mean_opp.
    apply mean_ext. intros i _. rewrite slope_eq. unfold q, r_w, r_l. ring. }
  transitivity (2 * sum p (fun k => phi_bar k * v k)).
  - unfold mean, score.
    rewrite (sum_ext N _ (fun i => sum p (fun k => v k * (x_w i k + x_l i k))))
      by (intros; rewrite <- sum_plus; apply sum_ext; intros; ring).
    rewrite sum_swap. unfold Rdiv. rewrite <- sum_scal_r, <- sum_scal. apply sum_ext. intros k _.
    rewrite sum_scal. unfold phi_bar.
    pose proof (pairs_pos N HN). field. lra.
  - rewrite (sum_ext p _ (fun k => sum N (fun i => / INR N * (q i * (phi_bar k * (x_w i k - x_l i k)))))).
    { rewrite <- sum_swap, <- sum_scal, <- sum_scal. apply sum_ext. intros i _.
      rewrite sum_scal, sum_scal. fold (q i). unfold Rdiv. ring. }
    intros k Hk. rewrite V by easy. unfold mean, Rdiv. rewrite <- sum_scal_r, <- sum_scal.
    apply sum_ext. intros. ring.
Qed.

(* Nothing makes this zero: for one pair with x_w = 2 and x_l = 1, which share most of their one feature, it is positive
   for every flow at every time, and there is a flow. *)
(* begin: T6_example *)
Theorem T6_example :
  let x_w := fun (i k : nat) => 2 in
  let x_l := fun (i k : nat) => 1 in
  let s := fun (theta : nat -> R) (i : nat) =>
    score 1 theta (x_w i) + score 1 theta (x_l i) in
  (exists theta, weights_flow 1 1 0 no_margin x_w x_l theta) /\
  (forall theta, weights_flow 1 1 0 no_margin x_w x_l theta -> forall t, 0 <= t ->
    exists rate, 0 < rate /\ is_derive (fun t => mean 1 (s (theta t))) t rate).
(* end: T6_example *)
Proof.
  intros x_w x_l s. split.
  - destruct T5_omega as (omega & Om & _). exists (fun t _ => ln (omega t)). intros t k Ht Hk. cbv zeta.
    rewrite partial_linear by easy. apply (is_derive_eq _ _ _ _ (is_derive_log_omega omega t Om)).
    unfold gradient, mean, score, x_w, x_l, no_margin. cbn [sum INR]. rewrite slope_eq.
    replace (0 + ln (omega t) * 2 - (0 + ln (omega t) * 1) - 0) with (ln (omega t)) by ring. field.
  - intros theta F t Ht. eexists.
    split; [|apply (T6_drift 1 1 0 no_margin x_w x_l theta t Nat.lt_0_1 F Ht)].
    unfold x_w, x_l. cbn [sum INR]. set (q := sigmoid _). assert (0 < q) by apply sigmoid_pos.
    replace (2 / 1 * (0 + (q - 0) * (0 + (0 + (2 + 1)) / (2 * 1) * (2 - 1)))) with (3 * q) by field. lra.
Qed.

(* With free scores the loss does not move the mean of s at all. *)
(* begin: T6_free *)
Theorem T6_free (N : nat) (eps : R) (m : nat -> R) (r_w r_l : R -> nat -> R) :
  flow N 0 eps m r_w r_l -> forall t, 0 <= t ->
  mean N (fun i => r_w t i + r_l t i) = mean N (fun i => r_w 0 i + r_l 0 i).
(* end: T6_free *)
Proof.
  intros F t Ht. apply mean_ext. intros i Hi. rewrite (T5_sum N 0 eps m r_w r_l F t i Ht Hi).
  replace (-4 * 0 * t / INR N) with 0 by (unfold Rdiv; ring). rewrite exp_0. ring.
Qed.
