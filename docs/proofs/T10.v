(* T10. The printed sign. *)
From Refrm Require Import Common T05.

(* a parabola that opens downwards falls below every number *)
Lemma parabola_falls a b c M : 0 < a -> exists t, 0 < t /\ c + b * t - a * t ^ 2 < M.
Proof.
  intros Ha. set (q := Rabs b + Rabs (c - M) + 1).
  assert (Hq : 0 < q) by (unfold q; pose proof (Rabs_pos b); pose proof (Rabs_pos (c - M)); lra).
  exists (1 + q / a). assert (0 < q / a) by now apply Rdiv_lt_0_compat.
  split; [lra|]. set (t := 1 + q / a).
  assert (a * t = a + q) by (unfold t; field; lra).
  assert (1 < t) by (unfold t; lra).
  pose proof (Rle_abs b). pose proof (Rle_abs (c - M)). pose proof (Rabs_pos b). pose proof (Rabs_pos (c - M)).
  assert (E : a * t ^ 2 = (a + q) * t) by (rewrite <- H0; ring).
  assert (q * t = Rabs b * t + Rabs (c - M) * t + t) by (unfold q; ring).
  assert (b * t <= Rabs b * t) by nra. assert (Rabs (c - M) <= Rabs (c - M) * t) by nra. nra.
Qed.

(* With -lambda mean s^2 in place of +lambda mean s^2, J falls below every number as soon as some s can move: whatever
   the changes dr_w, dr_l of the scores are, if they change one s_i then J is unbounded below along them. *)
(* begin: T10_unbounded *)
Theorem T10_unbounded (N : nat) (lambda eps : R) (m r_w r_l dr_w dr_l : nat -> R)
    (i : nat) :
  0 < lambda -> 0 <= eps <= 1 -> (i < N)%nat -> dr_w i + dr_l i <> 0 ->
  forall M, exists t,
  objective N (- lambda) eps m (fun i => r_w i + t * dr_w i)
    (fun i => r_l i + t * dr_l i) < M.
(* end: T10_unbounded *)
Proof.
  intros Hl He Hi Hne M.
  assert (HN : (0 < N)%nat) by lia. pose proof (pairs_pos N HN) as Np.
  set (s := r_w i + r_l i). set (e := dr_w i + dr_l i) in *.
  set (L := loss N eps m r_w r_l). set (K := mean N (fun i => Rabs (dr_w i - dr_l i))).
  set (a := lambda * e ^ 2 / (2 * INR N)). set (b := lambda * s ^ 2 / INR N).
  assert (He2 : 0 < e ^ 2) by (destruct (Rdichotomy _ _ Hne); nra).
  assert (Ha : 0 < a) by (apply Rdiv_lt_0_compat; nra).
  destruct (parabola_falls a K (L + b) M Ha) as (t & Ht & H). exists t. apply Rle_lt_trans with (2 := H).
  assert (H1 : loss N eps m (fun i => r_w i + t * dr_w i) (fun i => r_l i + t * dr_l i) <= L + K * t).
  { unfold L, K, loss. rewrite Rmult_comm, <- mean_scal, <- mean_plus. apply mean_le; [easy|]. intros j _.
    replace (r_w j + t * dr_w j - (r_l j + t * dr_l j) - m j)
      with (r_w j - r_l j - m j + t * (dr_w j - dr_l j)) by ring.
    rewrite <- (Rabs_pos_eq t) at 2 by lra. rewrite <- Rabs_mult.
    pose proof (pair_loss_lipschitz eps (r_w j - r_l j - m j) (t * (dr_w j - dr_l j)) He) as B.
    apply Rabs_le_between in B. lra. }
  assert (H2 : (s + t * e) ^ 2 / INR N <= penalty N (fun i => r_w i + t * dr_w i) (fun i => r_l i + t * dr_l i)).
  { unfold penalty, mean. apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat|].
    replace (s + t * e) with (r_w i + t * dr_w i + (r_l i + t * dr_l i)) by (unfold s, e; ring).
    apply (sum_term N (fun i => (r_w i + t * dr_w i + (r_l i + t * dr_l i)) ^ 2)); [|easy].
    intros. apply pow2_ge_0. }
  assert (H3 : (t * e) ^ 2 / 2 - s ^ 2 <= (s + t * e) ^ 2) by (pose proof (pow2_ge_0 (2 * s + t * e)); nra).
  assert (H4 : a * t ^ 2 - b <= lambda * ((s + t * e) ^ 2 / INR N)).
  { replace (a * t ^ 2 - b) with (lambda * (((t * e) ^ 2 / 2 - s ^ 2) / INR N)) by (unfold a, b; field; lra).
    apply Rmult_le_compat_l; [lra|]. apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat|easy]. }
  unfold objective. nra.
Qed.

(* Free scores under gradient flow inflate like exp(+4 lambda t / N). (T5_solution shows such a flow.) *)
(* begin: T10_inflation *)
Theorem T10_inflation (N : nat) (lambda eps : R) (m : nat -> R)
    (r_w r_l : R -> nat -> R) :
  flow N (- lambda) eps m r_w r_l -> forall t i, 0 <= t -> (i < N)%nat ->
  r_w t i + r_l t i = (r_w 0 i + r_l 0 i) * exp (4 * lambda * t / INR N).
(* end: T10_inflation *)
Proof.
  intros F t i Ht Hi. rewrite (T5_sum N (- lambda) eps m r_w r_l F t i Ht Hi).
  f_equal. f_equal. unfold Rdiv. ring.
Qed.

(* And under gradient descent every step multiplies s by 1 + 4 eta lambda / N. *)
(* begin: T10_steps *)
Theorem T10_steps (N : nat) (lambda eps eta : R) (m : nat -> R)
    (r_w r_l : nat -> nat -> R) :
  let J := objective N (- lambda) eps m in
  (forall k i, (i < N)%nat ->
    r_w (S k) i = r_w k i - eta * partial (fun w => J w (r_l k)) i (r_w k) /\
    r_l (S k) i = r_l k i - eta * partial (fun l => J (r_w k) l) i (r_l k)) ->
  forall k i, (i < N)%nat ->
  r_w k i + r_l k i = (1 + 4 * eta * lambda / INR N) ^ k * (r_w 0%nat i + r_l 0%nat i).
(* end: T10_steps *)
Proof.
  intros J H k i Hi. destruct (T5_steps N (- lambda) eps eta m r_w r_l H k i Hi) as [-> _].
  f_equal. f_equal. unfold Rdiv. ring.
Qed.
