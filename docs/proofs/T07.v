(* T7. Bounded mean, along the way. *)
From Refrm Require Import Common.

(* Wherever J <= J0, mean s^2 <= J0 / lambda, the mean of all scores is at most sqrt(J0 / lambda) / 2 in size, and each
   s_i at most sqrt(N J0 / lambda). *)
(* begin: T7_bounded_mean *)
Theorem T7_bounded_mean (N : nat) (lambda eps J0 : R) (m r_w r_l : nat -> R) :
  (0 < N)%nat -> 0 < lambda -> 0 <= eps <= 1 ->
  objective N lambda eps m r_w r_l <= J0 ->
  mean N (fun i => (r_w i + r_l i) ^ 2) <= J0 / lambda /\
  Rabs (mean N (fun i => (r_w i + r_l i) / 2)) <= sqrt (J0 / lambda) / 2 /\
  forall i, (i < N)%nat -> Rabs (r_w i + r_l i) <= sqrt (INR N * J0 / lambda).
(* end: T7_bounded_mean *)
Proof.
  intros HN Hl He H.
  assert (L : 0 <= loss N eps m r_w r_l) by (apply mean_ge_0; [easy|intros; left; now apply pair_loss_pos]).
  assert (P : mean N (fun i => (r_w i + r_l i) ^ 2) <= J0 / lambda).
  { apply (Rmult_le_reg_r lambda); [easy|]. replace (J0 / lambda * lambda) with J0 by (field; lra).
    unfold objective, penalty in H. lra. }
  split; [easy|]. split; [|intros i Hi].
  2: { rewrite <- sqrt_Rsqr_abs. apply sqrt_le_1_alt. unfold Rsqr.
    pose proof (pairs_pos N HN) as Np. apply (Rmult_le_compat_l (INR N)) in P; [|lra]. unfold mean in P.
    replace (INR N * (sum N (fun i => (r_w i + r_l i) ^ 2) / INR N)) with (sum N (fun i => (r_w i + r_l i) ^ 2)) in P
      by (field; lra).
    pose proof (sum_term N (fun i => (r_w i + r_l i) ^ 2) i (fun j _ => pow2_ge_0 _) Hi). cbv beta in H0.
    unfold Rdiv in *. lra. }
  rewrite (mean_ext N _ (fun i => / 2 * (r_w i + r_l i))) by (intros; field).
  rewrite mean_scal, Rabs_mult, (Rabs_pos_eq (/ 2)) by lra.
  pose proof (mean_square N (fun i => r_w i + r_l i) HN) as Q.
  assert (Rabs (mean N (fun i => r_w i + r_l i)) <= sqrt (J0 / lambda)); [|lra].
  rewrite <- sqrt_Rsqr_abs. apply sqrt_le_1_alt. unfold Rsqr. lra.
Qed.

(* From zero scores, without margins, J0 = log 2. *)
(* begin: T7_start *)
Theorem T7_start (N : nat) (lambda eps : R) :
  (0 < N)%nat -> objective N lambda eps no_margin (fun _ => 0) (fun _ => 0) = ln 2.
(* end: T7_start *)
Proof.
  intros HN. unfold objective, loss, penalty, no_margin, pair_loss, softplus. rewrite 2!mean_const by easy.
  replace (- (0 - 0 - 0)) with 0 by ring. replace (0 - 0 - 0) with 0 by ring. rewrite exp_0.
  replace (1 + 1) with 2 by ring. ring.
Qed.

(* the loss of a pair lies below its parabola of curvature 1/4 *)
Lemma pair_loss_le eps z e : pair_loss eps (z + e) <= pair_loss eps z + slope eps z * e + e ^ 2 / 8.
Proof.
  set (f := fun t => pair_loss eps z + slope eps z * t + t ^ 2 / 8 - pair_loss eps (z + t)).
  assert (D : forall t, is_derive f t (slope eps z + t / 4 - slope eps (z + t))).
  { intros t. unfold f. pose proof (is_derive_pair_loss eps (z + t)). derive. field. }
  destruct (mean_value f _ 0 e D) as (x & Hx & E).
  destruct (mean_value (slope eps) curvature z (z + x) (is_derive_slope eps)) as (y & _ & Ey).
  replace (slope eps z + x / 4 - slope eps (z + x)) with (x * (1 / 4 - curvature y)) in E by nra.
  assert (F0 : f 0 = 0) by (unfold f; rewrite Rplus_0_r; field).
  assert (0 <= x * e) by (unfold Rmin, Rmax in Hx; destruct (Rle_dec 0 e); nra).
  pose proof (curvature_le y). assert (0 <= f e) by nra. unfold f in *. lra.
Qed.

(* Descent on the linear model. A and B stand for |D|^2 and |S|^2, D = X_w - X_l and S = X_w + X_l: numbers with
   |D v|^2 <= A |v|^2 and |S v|^2 <= B |v|^2 for all v. A gradient step of length eta lowers J by at least
   eta (1 - eta beta/2) |grad J|^2, with margins and smoothing too. *)
(* begin: T7_descent *)
Theorem T7_descent (N p : nat) (lambda eps A B eta : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) :
  (0 < N)%nat -> 0 <= lambda ->
  (forall v, sum N (fun i => (score p v (x_w i) - score p v (x_l i)) ^ 2)
    <= A * sum p (fun k => v k ^ 2)) ->
  (forall v, sum N (fun i => (score p v (x_w i) + score p v (x_l i)) ^ 2)
    <= B * sum p (fun k => v k ^ 2)) ->
  let beta := A / (4 * INR N) + 2 * lambda * B / INR N in
  let J := linear N lambda eps m p x_w x_l in
  0 <= eta ->
  J (fun k => theta k - eta * partial J k theta)
  <= J theta - eta * (1 - eta * beta / 2) * sum p (fun k => partial J k theta ^ 2).
(* end: T7_descent *)
Proof.
  intros HN Hl HA HB beta J He. set (g := gradient N lambda eps m p x_w x_l theta).
  set (v := fun k => - partial J k theta).
  assert (V : sum p (fun k => partial J k theta ^ 2) = sum p (fun k => v k ^ 2))
    by (apply sum_ext; intros; unfold v; ring).
  assert (G : sum p (fun k => v k * g k) = - sum p (fun k => v k ^ 2)).
  { rewrite <- sum_opp. apply sum_ext. intros k Hk. unfold v, g, J. rewrite partial_linear by easy. ring. }
  unfold g in G. rewrite gradient_dot in G.
  set (z := fun i => score p theta (x_w i) - score p theta (x_l i) - m i).
  set (s := fun i => score p theta (x_w i) + score p theta (x_l i)).
  set (dv := fun i => score p v (x_w i) - score p v (x_l i)).
  set (sv := fun i => score p v (x_w i) + score p v (x_l i)).
  change (mean N (fun i => slope eps (z i) * dv i) + lambda * mean N (fun i => 2 * s i * sv i)
          = - sum p (fun k => v k ^ 2)) in G.
  rewrite V. unfold J at 2. unfold linear, objective, loss, penalty.
  change (J (fun k => theta k - eta * partial J k theta) <=
    mean N (fun i => pair_loss eps (z i)) + lambda * mean N (fun i => s i ^ 2)
    - eta * (1 - eta * beta / 2) * sum p (fun k => v k ^ 2)).
  assert (E : J (fun k => theta k - eta * partial J k theta)
    = mean N (fun i => pair_loss eps (z i + eta * dv i)) + lambda * mean N (fun i => (s i + eta * sv i) ^ 2)).
  { unfold J at 1, linear, objective, loss, penalty.
    assert (Sc : forall x, score p (fun k => theta k - eta * partial J k theta) x
      = score p theta x + eta * score p v x).
    { intros x. rewrite <- score_plus. apply score_ext. intros. unfold v. ring. }
    f_equal; [|f_equal]; apply mean_ext; intros i _; rewrite 2!Sc; f_equal; unfold z, s, dv, sv; ring. }
  rewrite E. clear E.
  assert (L : mean N (fun i => pair_loss eps (z i + eta * dv i)) <=
    mean N (fun i => pair_loss eps (z i)) + eta * mean N (fun i => slope eps (z i) * dv i)
    + eta ^ 2 / 8 * mean N (fun i => dv i ^ 2)).
  { rewrite <- 2!mean_scal, <- 2!mean_plus. apply mean_le; [easy|]. intros i _.
    apply (Rle_trans _ _ _ (pair_loss_le eps (z i) (eta * dv i))). right. field. }
  assert (P : mean N (fun i => (s i + eta * sv i) ^ 2) =
    mean N (fun i => s i ^ 2) + eta * mean N (fun i => 2 * s i * sv i) + eta ^ 2 * mean N (fun i => sv i ^ 2)).
  { rewrite <- 2!mean_scal, <- 2!mean_plus. apply mean_ext. intros. ring. }
  rewrite P.
  pose proof (pairs_pos N HN) as Np. set (q := sum p (fun k => v k ^ 2)) in *.
  assert (Da : mean N (fun i => dv i ^ 2) <= A * q / INR N)
    by (apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat|apply HA]).
  assert (Sb : mean N (fun i => sv i ^ 2) <= B * q / INR N)
    by (apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat|apply HB]).
  assert (Hq : 0 <= q) by (apply sum_ge_0; intros; apply pow2_ge_0).
  assert (Be : / 8 * (A * q / INR N) + lambda * (B * q / INR N) = beta / 2 * q) by (unfold beta; field; lra).
  assert (0 <= eta ^ 2) by apply pow2_ge_0.
  assert (X : eta ^ 2 * (/ 8 * mean N (fun i => dv i ^ 2) + lambda * mean N (fun i => sv i ^ 2))
    <= eta ^ 2 * (beta / 2 * q)).
  { apply Rmult_le_compat_l; [easy|]. rewrite <- Be. apply Rplus_le_compat; apply Rmult_le_compat_l; lra. }
  nra.
Qed.

(* So with eta <= 1/beta every step lowers J by at least eta/2 |grad J|^2, and the bound of T7 holds at all iterates of
   gradient descent with J0 = J(theta 0). *)
(* begin: T7_along_the_way *)
Theorem T7_along_the_way (N p : nat) (lambda eps A B eta : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> nat -> R) :
  (0 < N)%nat -> 0 < lambda -> 0 <= eps <= 1 ->
  (forall v, sum N (fun i => (score p v (x_w i) - score p v (x_l i)) ^ 2)
    <= A * sum p (fun k => v k ^ 2)) ->
  (forall v, sum N (fun i => (score p v (x_w i) + score p v (x_l i)) ^ 2)
    <= B * sum p (fun k => v k ^ 2)) ->
  let beta := A / (4 * INR N) + 2 * lambda * B / INR N in
  let J := linear N lambda eps m p x_w x_l in
  0 <= eta -> eta * beta <= 1 ->
  (forall n k, theta (S n) k = theta n k - eta * partial J k (theta n)) ->
  forall n,
  J (theta (S n)) <= J (theta n) - eta / 2 * sum p (fun k => partial J k (theta n) ^ 2) /\
  J (theta n) <= J (theta 0%nat) /\
  mean N (fun i => (score p (theta n) (x_w i) + score p (theta n) (x_l i)) ^ 2)
    <= J (theta 0%nat) / lambda.
(* end: T7_along_the_way *)
Proof.
  intros HN Hl Heps HA HB beta J He Hb H n.
  assert (Step : forall n, J (theta (S n)) <= J (theta n) - eta / 2 * sum p (fun k => partial J k (theta n) ^ 2)).
  { clear n. intros n.
    pose proof (T7_descent N p lambda eps A B eta m x_w x_l (theta n) HN ltac:(lra) HA HB He) as T.
    cbv zeta in T. fold J in T. fold beta in T.
    assert (E : J (theta (S n)) = J (fun k => theta n k - eta * partial J k (theta n))).
    { unfold J at 1 2, linear, objective, loss, penalty.
      assert (Sc : forall x, score p (theta (S n)) x = score p (fun k => theta n k - eta * partial J k (theta n)) x)
        by (intros x; apply score_ext; intros; apply H).
      f_equal; [|f_equal]; apply mean_ext; intros i _; now rewrite 2!Sc. }
    rewrite E. assert (0 <= sum p (fun k => partial J k (theta n) ^ 2)) by (apply sum_ge_0; intros; apply pow2_ge_0).
    set (q := sum p (fun k => partial J k (theta n) ^ 2)) in *.
    assert (0 <= eta * q * (1 - eta * beta)) by (apply Rmult_le_pos; [now apply Rmult_le_pos|lra]).
    apply (Rle_trans _ _ _ T). clearbody beta. lra. }
  assert (D : J (theta n) <= J (theta 0%nat)).
  { induction n as [|n IH]; [lra|]. specialize (Step n).
    assert (0 <= sum p (fun k => partial J k (theta n) ^ 2)) by (apply sum_ge_0; intros; apply pow2_ge_0). nra. }
  split; [apply Step|]. split; [easy|]. now apply (T7_bounded_mean N lambda eps _ m).
Qed.

Lemma cauchy_schwarz p a b : sum p (fun k => a k * b k) ^ 2 <= sum p (fun k => b k ^ 2) * sum p (fun k => a k ^ 2).
Proof.
  induction p as [|p IH]; cbn [sum]; [lra|].
  set (s := sum p (fun k => a k * b k)) in *. set (x := sum p (fun k => a k ^ 2)) in *.
  set (y := sum p (fun k => b k ^ 2)) in *.
  assert (0 <= x) by (apply sum_ge_0; intros; apply pow2_ge_0).
  assert (0 <= y) by (apply sum_ge_0; intros; apply pow2_ge_0).
  generalize (a p) (b p). intros u v.
  assert (K : 2 * s * (u * v) <= x * v ^ 2 + y * u ^ 2).
  { apply Rnot_lt_le. intros C. assert (0 <= x * v ^ 2 + y * u ^ 2) by nra.
    assert ((x * v ^ 2 + y * u ^ 2) ^ 2 < (2 * s * (u * v)) ^ 2) by nra.
    assert ((2 * s * (u * v)) ^ 2 <= 4 * (y * x) * (u * v) ^ 2).
    { replace ((2 * s * (u * v)) ^ 2) with (4 * s ^ 2 * (u * v) ^ 2) by ring.
      pose proof (pow2_ge_0 (u * v)). nra. }
    pose proof (pow2_ge_0 (x * v ^ 2 - y * u ^ 2)). nra. }
  nra.
Qed.

(* Such A and B exist: the sums of the squares of all entries do. *)
(* begin: T7_norms_exist *)
Theorem T7_norms_exist (N p : nat) (x : nat -> nat -> R) (v : nat -> R) :
  sum N (fun i => score p v (x i) ^ 2)
    <= sum N (fun i => sum p (fun k => x i k ^ 2)) * sum p (fun k => v k ^ 2).
(* end: T7_norms_exist *)
Proof.
  rewrite <- sum_scal_r. apply sum_le. intros i _. apply cauchy_schwarz.
Qed.
