(* T9. Linear model: convexity, uniqueness, existence. *)
From Coq Require Import Classical.
From Refrm Require Import Common.

(* begin: rows *)
(* D v and S v of pair i, D = X_w - X_l, S = X_w + X_l *)
Definition Dv (p : nat) (x_w x_l : nat -> nat -> R) (v : nat -> R) (i : nat) :=
  score p v (x_w i) - score p v (x_l i).
Definition Sv (p : nat) (x_w x_l : nat -> nat -> R) (v : nat -> R) (i : nat) :=
  score p v (x_w i) + score p v (x_l i).
(* end: rows *)

(* begin: unseen *)
(* v is in the kernel of D and, where lambda > 0, in that of S *)
Definition unseen (N : nat) (lambda : R) (p : nat) (x_w x_l : nat -> nat -> R)
    (v : nat -> R) : Prop :=
  forall i, (i < N)%nat -> Dv p x_w x_l v i = 0 /\ (0 < lambda -> Sv p x_w x_l v i = 0).
(* end: unseen *)

(* the second derivative of J in weights k and n *)
(* begin: hessian *)
Definition hessian (N : nat) (lambda : R) (m : nat -> R) (p : nat)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) (k n : nat) : R :=
  let z := fun i => Dv p x_w x_l theta i - m i in
  let h := fun i => sigmoid (z i) * sigmoid (- z i) in
  mean N (fun i => (x_w i k - x_l i k) * h i * (x_w i n - x_l i n))
  + 2 * lambda * mean N (fun i => (x_w i k + x_l i k) * (x_w i n + x_l i n)).
(* end: hessian *)

Lemma second_loss eps m a (w l : R -> R) t dw dl : is_derive w t dw -> is_derive l t dl ->
  is_derive (fun y => slope eps (w y - l y - m) * a) t (a * curvature (w t - l t - m) * (dw - dl)).
Proof. intros Hw Hl. pose proof (is_derive_slope eps (w t - l t - m)). derive. ring. Qed.

Lemma second_penalty a (w l : R -> R) t dw dl : is_derive w t dw -> is_derive l t dl ->
  is_derive (fun y => 2 * (w y + l y) * a) t (2 * (a * (dw + dl))).
Proof. intros Hw Hl. derive. ring. Qed.

(* The Hessian of J is (1/N) D' diag(h) D + (2 lambda/N) S' S, h = sigma(z) sigma(-z), with smoothing too. *)
(* begin: T9_hessian *)
Theorem T9_hessian (N p : nat) (lambda eps : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) (k n : nat) :
  (k < p)%nat -> (n < p)%nat ->
  let J := linear N lambda eps m p x_w x_l in
  is_derive (fun t => partial J k (put theta n t)) (theta n)
    (hessian N lambda m p x_w x_l theta k n).
(* end: T9_hessian *)
Proof.
  intros Hk Hn J.
  apply (is_derive_Rext (fun t => gradient N lambda eps m p x_w x_l (put theta n t) k)).
  { intros t. symmetry. now apply partial_linear. }
  unfold gradient, hessian. cbv zeta.
  apply is_derive_Rplus.
  - apply (is_derive_mean N (fun i t =>
      slope eps (score p (put theta n t) (x_w i) - score p (put theta n t) (x_l i) - m i) * (x_w i k - x_l i k))).
    intros i _. eapply is_derive_eq.
    + apply (second_loss eps (m i) (x_w i k - x_l i k) (fun t => score p (put theta n t) (x_w i))
        (fun t => score p (put theta n t) (x_l i))); now apply is_derive_weight.
    + cbv beta. rewrite 2!score_put_same. easy.
  - eapply is_derive_eq.
    + apply is_derive_Rscal.
      apply (is_derive_mean N (fun i t => 2 * (score p (put theta n t) (x_w i) + score p (put theta n t) (x_l i))
        * (x_w i k + x_l i k)) _ (fun i => 2 * ((x_w i k + x_l i k) * (x_w i n + x_l i n)))). intros i _.
      apply (second_penalty (x_w i k + x_l i k) (fun t => score p (put theta n t) (x_w i))
        (fun t => score p (put theta n t) (x_l i))); now apply is_derive_weight.
    + rewrite mean_scal. ring.
Qed.

(* v' H v is (1/N) sum h_i (D v)_i^2 + (2 lambda/N) sum (S v)_i^2 *)
Lemma hessian_form N lambda m p x_w x_l theta v :
  sum p (fun k => sum p (fun n => v k * hessian N lambda m p x_w x_l theta k n * v n))
  = mean N (fun i => curvature (Dv p x_w x_l theta i - m i) * Dv p x_w x_l v i ^ 2)
    + 2 * lambda * mean N (fun i => Sv p x_w x_l v i ^ 2).
Proof.
  assert (E : forall (a : nat -> R) (b : nat -> nat -> R),
    sum p (fun k => sum p (fun n => v k * mean N (fun i => b i k * a i * b i n) * v n))
    = mean N (fun i => a i * sum p (fun k => v k * b i k) ^ 2)).
  { intros a b. unfold mean, Rdiv. rewrite <- sum_scal_r.
    rewrite (sum_ext N (fun i => _ * sum _ _ ^ 2 * _) (fun i =>
      sum p (fun k => sum p (fun n => v k * (b i k * a i * b i n * / INR N) * v n)))).
    2: { intros i _. replace (a i * sum p (fun k => v k * b i k) ^ 2 * / INR N)
      with (sum p (fun k => v k * b i k) * (a i * / INR N * sum p (fun k => v k * b i k))) by ring.
      rewrite <- sum_scal_r. apply sum_ext. intros k _. rewrite <- sum_scal, <- sum_scal. apply sum_ext.
      intros. ring. }
    rewrite (sum_swap N p). apply sum_ext. intros k _. rewrite (sum_swap N p). apply sum_ext. intros n _.
    rewrite <- sum_scal_r, <- sum_scal, <- sum_scal_r. apply sum_ext. intros. ring. }
  unfold hessian. cbv zeta.
  rewrite (sum_ext p _ (fun k =>
    sum p (fun n => v k * mean N (fun i =>
      (x_w i k - x_l i k) * curvature (Dv p x_w x_l theta i - m i) * (x_w i n - x_l i n)) * v n)
    + 2 * lambda * sum p (fun n => v k * mean N (fun i => (x_w i k + x_l i k) * 1 * (x_w i n + x_l i n)) * v n))).
  - rewrite sum_plus, sum_scal, (E (fun i => curvature (Dv p x_w x_l theta i - m i)) (fun i k => x_w i k - x_l i k)),
      (E (fun _ => 1) (fun i k => x_w i k + x_l i k)).
    f_equal; [|f_equal]; apply mean_ext; intros i _.
    + f_equal. f_equal. unfold Dv, score. rewrite <- sum_minus. apply sum_ext. intros. ring.
    + rewrite Rmult_1_l. f_equal. unfold Sv, score. rewrite <- sum_plus. apply sum_ext. intros. ring.
  - intros k _. rewrite <- sum_scal, <- sum_plus. apply sum_ext. intros n _.
    rewrite (mean_ext N (fun i => (x_w i k + x_l i k) * 1 * (x_w i n + x_l i n))
      (fun i => (x_w i k + x_l i k) * (x_w i n + x_l i n))) by (intros; ring).
    unfold curvature. ring.
Qed.

(* It is positive semi-definite: v' H v >= 0 for every v. And v' H v = 0 for the v that are unseen, and only
   for those. *)
(* begin: T9_semidefinite *)
Theorem T9_semidefinite (N p : nat) (lambda : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta v : nat -> R) :
  (0 < N)%nat -> 0 <= lambda ->
  let vHv := sum p
    (fun k => sum p (fun n => v k * hessian N lambda m p x_w x_l theta k n * v n)) in
  0 <= vHv /\
  (vHv = 0 <-> unseen N lambda p x_w x_l v).
(* end: T9_semidefinite *)
Proof.
  intros HN Hl vHv. unfold vHv. rewrite hessian_form.
  set (a := fun i => curvature (Dv p x_w x_l theta i - m i) * Dv p x_w x_l v i ^ 2).
  set (b := fun i => Sv p x_w x_l v i ^ 2).
  assert (A : forall i, (i < N)%nat -> 0 <= a i).
  { intros i _. unfold a. pose proof (curvature_pos (Dv p x_w x_l theta i - m i)).
    pose proof (pow2_ge_0 (Dv p x_w x_l v i)). nra. }
  assert (B : forall i, (i < N)%nat -> 0 <= b i) by (intros; apply pow2_ge_0).
  pose proof (mean_ge_0 N a HN A). pose proof (mean_ge_0 N b HN B). split; [nra|split].
  - intros Z i Hi. split.
    + assert (Za : mean N a = 0) by nra. pose proof (mean_eq_0 N a HN A Za i Hi) as E. unfold a in E.
      pose proof (curvature_pos (Dv p x_w x_l theta i - m i)).
      apply Rmult_integral in E. destruct E as [E|E]; [lra|]. nra.
    + intros Hp. assert (Zb : mean N b = 0) by nra. pose proof (mean_eq_0 N b HN B Zb i Hi) as E. unfold b in E. nra.
  - intros Z. rewrite (mean_0 N a) by (intros i Hi; unfold a; destruct (Z i Hi) as [-> _]; ring).
    destruct (Rle_lt_or_eq_dec 0 lambda Hl) as [Hp|<-]; [|ring].
    rewrite (mean_0 N b) by (intros i Hi; unfold b; destruct (Z i Hi) as [_ E]; rewrite E by easy; ring). ring.
Qed.

(* ---- Strict convexity ---- *)

(* a convex function lies above its tangents *)
Lemma pair_loss_tangent eps z y : y <> z -> pair_loss eps z + slope eps z * (y - z) < pair_loss eps y.
Proof.
  intros Hne. destruct (mean_value (slope eps) curvature z y (is_derive_slope eps)) as (a & _ & Ea).
  set (f := fun x => pair_loss eps x - slope eps z * x).
  assert (D : forall x, is_derive f x (slope eps x - slope eps z))
    by (intros x; unfold f; pose proof (is_derive_pair_loss eps x); derive; ring).
  set (c := (z + y) / 2).
  destruct (mean_value f _ z c D) as (u & Hu & Eu). destruct (mean_value f _ c y D) as (w & Hw & Ew).
  assert (U : 0 <= (slope eps u - slope eps z) * (c - z)).
  { destruct (mean_value (slope eps) curvature z u (is_derive_slope eps)) as (q & _ & Eq).
    pose proof (curvature_pos q). rewrite Eq.
    assert (0 <= (u - z) * (c - z)) by (unfold Rmin, Rmax in Hu; destruct (Rle_dec z c); nra). nra. }
  assert (W : 0 < (slope eps w - slope eps z) * (y - c)).
  { destruct (mean_value (slope eps) curvature z w (is_derive_slope eps)) as (q & _ & Eq).
    pose proof (curvature_pos q). rewrite Eq.
    assert (0 < (w - z) * (y - c)).
    { unfold Rmin, Rmax in Hw. destruct (Rdichotomy _ _ Hne); unfold c in *; destruct (Rle_dec ((z + y) / 2) y); nra. }
    nra. }
  unfold f in *. nra.
Qed.

Lemma pair_loss_convex eps z z' t : 0 < t < 1 -> z <> z' ->
  pair_loss eps (t * z + (1 - t) * z') < t * pair_loss eps z + (1 - t) * pair_loss eps z'.
Proof.
  intros Ht Hne. set (y := t * z + (1 - t) * z').
  pose proof (pair_loss_tangent eps y z ltac:(unfold y; intros E; apply Hne; nra)).
  pose proof (pair_loss_tangent eps y z' ltac:(unfold y; intros E; apply Hne; nra)).
  assert (E : t * (slope eps y * (z - y)) + (1 - t) * (slope eps y * (z' - y)) = 0) by (unfold y; ring).
  nra.
Qed.

Lemma square_convex s s' t : 0 < t < 1 ->
  (t * s + (1 - t) * s') ^ 2 + t * (1 - t) * (s - s') ^ 2 = t * s ^ 2 + (1 - t) * s' ^ 2.
Proof. intros. ring. Qed.

Lemma score_mix p theta theta' t x :
  score p (fun k => t * theta k + (1 - t) * theta' k) x = t * score p theta x + (1 - t) * score p theta' x.
Proof. unfold score. rewrite <- 2!sum_scal, <- sum_plus. apply sum_ext. intros. ring. Qed.

Lemma score_diff p theta theta' x :
  score p (fun k => theta k - theta' k) x = score p theta x - score p theta' x.
Proof. unfold score. rewrite <- sum_minus. apply sum_ext. intros. ring. Qed.

Lemma score_0 p v x : (forall k, (k < p)%nat -> v k = 0) -> score p v x = 0.
Proof. intros H. apply sum_0. intros k Hk. rewrite H by easy. ring. Qed.

(* begin: strictly_convex *)
Definition strictly_convex (p : nat) (J : (nat -> R) -> R) : Prop :=
  forall theta theta' t, 0 < t < 1 -> (exists k, (k < p)%nat /\ theta k <> theta' k) ->
  J (fun k => t * theta k + (1 - t) * theta' k) < t * J theta + (1 - t) * J theta'.
(* end: strictly_convex *)

Lemma linear_kernel N p lambda eps m x_w x_l theta theta' : 0 <= lambda ->
  unseen N lambda p x_w x_l (fun k => theta k - theta' k) ->
  linear N lambda eps m p x_w x_l theta = linear N lambda eps m p x_w x_l theta'.
Proof.
  intros Hl H. unfold linear, objective. f_equal.
  - apply mean_ext. intros i Hi. f_equal. destruct (H i Hi) as [E _]. unfold Dv in E. rewrite 2!score_diff in E. lra.
  - destruct (Rle_lt_or_eq_dec 0 lambda Hl) as [Hp|<-]; [|ring]. f_equal. apply mean_ext. intros i Hi. f_equal.
    destruct (H i Hi) as [_ E]. specialize (E Hp). unfold Sv in E. rewrite 2!score_diff in E. lra.
Qed.

(* J lies strictly below its chords, but for those that are not seen *)
Lemma linear_strict N p lambda eps m x_w x_l theta theta' t : (0 < N)%nat -> 0 <= lambda -> 0 < t < 1 ->
  let J := linear N lambda eps m p x_w x_l in
  t * J theta + (1 - t) * J theta' <= J (fun k => t * theta k + (1 - t) * theta' k) ->
  unseen N lambda p x_w x_l (fun k => theta k - theta' k).
Proof.
  intros HN Hl Ht. cbv zeta. intros Le.
  set (z := fun i => score p theta (x_w i) - score p theta (x_l i) - m i).
  set (z' := fun i => score p theta' (x_w i) - score p theta' (x_l i) - m i).
  set (s := fun i => score p theta (x_w i) + score p theta (x_l i)).
  set (s' := fun i => score p theta' (x_w i) + score p theta' (x_l i)).
  assert (Mix : linear N lambda eps m p x_w x_l (fun k => t * theta k + (1 - t) * theta' k)
    = mean N (fun i => pair_loss eps (t * z i + (1 - t) * z' i))
      + lambda * mean N (fun i => (t * s i + (1 - t) * s' i) ^ 2)).
  { unfold linear, objective, loss, penalty. f_equal; [|f_equal]; apply mean_ext; intros i _;
      rewrite 2!score_mix; f_equal; unfold z, z', s, s'; ring. }
  rewrite Mix in Le. clear Mix. unfold linear, objective, loss, penalty in Le.
  change (t * (mean N (fun i => pair_loss eps (z i)) + lambda * mean N (fun i => s i ^ 2))
    + (1 - t) * (mean N (fun i => pair_loss eps (z' i)) + lambda * mean N (fun i => s' i ^ 2))
    <= mean N (fun i => pair_loss eps (t * z i + (1 - t) * z' i))
      + lambda * mean N (fun i => (t * s i + (1 - t) * s' i) ^ 2)) in Le.
  assert (T : 0 < t * (1 - t)) by nra.
  assert (L : forall i,
    pair_loss eps (t * z i + (1 - t) * z' i) <= t * pair_loss eps (z i) + (1 - t) * pair_loss eps (z' i)).
  { intros i. destruct (Req_dec (z i) (z' i)) as [->|E]; [right|left; now apply pair_loss_convex].
    replace (t * z' i + (1 - t) * z' i) with (z' i) by ring. ring. }
  assert (P : forall i, (t * s i + (1 - t) * s' i) ^ 2 <= t * s i ^ 2 + (1 - t) * s' i ^ 2).
  { intros i. rewrite <- square_convex by easy. pose proof (pow2_ge_0 (s i - s' i)) as Q.
    pose proof (Rmult_le_pos _ _ (Rlt_le _ _ T) Q). lra. }
  assert (ML : mean N (fun i => pair_loss eps (t * z i + (1 - t) * z' i))
    <= t * mean N (fun i => pair_loss eps (z i)) + (1 - t) * mean N (fun i => pair_loss eps (z' i)))
    by (rewrite <- 2!mean_scal, <- mean_plus; now apply mean_le).
  assert (MP : mean N (fun i => (t * s i + (1 - t) * s' i) ^ 2)
    <= t * mean N (fun i => s i ^ 2) + (1 - t) * mean N (fun i => s' i ^ 2))
    by (rewrite <- 2!mean_scal, <- mean_plus; now apply mean_le).
  (* some pair is strict, or no pair sees the difference of the weights *)
  destruct (Rle_lt_dec (t * mean N (fun i => pair_loss eps (z i)) + (1 - t) * mean N (fun i => pair_loss eps (z' i)))
    (mean N (fun i => pair_loss eps (t * z i + (1 - t) * z' i)))) as [EL|]; [|nra].
  destruct (Rle_lt_or_eq_dec 0 lambda Hl) as [Hp|<-].
  + destruct (Rle_lt_dec (t * mean N (fun i => s i ^ 2) + (1 - t) * mean N (fun i => s' i ^ 2))
      (mean N (fun i => (t * s i + (1 - t) * s' i) ^ 2))) as [EP|]; [|nra].
    intros i Hi. unfold Dv, Sv. rewrite 2!score_diff. split.
    * destruct (Req_dec (z i) (z' i)) as [E|E]; [unfold z, z' in E; lra|exfalso].
      apply (Rlt_not_le _ _ (mean_lt N _ _ i (fun j _ => L j) Hi (pair_loss_convex eps (z i) (z' i) t Ht E))).
      rewrite mean_plus, 2!mean_scal. easy.
    * intros _. destruct (Req_dec (s i) (s' i)) as [E|E]; [unfold s, s' in E; lra|exfalso].
      refine (Rlt_not_le _ _ (mean_lt N _ _ i (fun j _ => P j) Hi _) _).
      -- rewrite <- square_convex by easy. 
         assert (P2 : 0 < (s i - s' i) ^ 2) by (destruct (Rdichotomy _ _ E); nra).
         pose proof (Rmult_lt_0_compat _ _ T P2). lra.
      -- rewrite mean_plus, 2!mean_scal. easy.
  + intros i Hi. split; [|lra]. unfold Dv. rewrite 2!score_diff.
    destruct (Req_dec (z i) (z' i)) as [E|E]; [unfold z, z' in E; lra|exfalso].
    apply (Rlt_not_le _ _ (mean_lt N _ _ i (fun j _ => L j) Hi (pair_loss_convex eps (z i) (z' i) t Ht E))).
    rewrite mean_plus, 2!mean_scal. easy.
Qed.

(* J is convex. *)
(* begin: T9_convex *)
Theorem T9_convex (N p : nat) (lambda eps : R) (m : nat -> R) (x_w x_l : nat -> nat -> R)
    (theta theta' : nat -> R) (t : R) :
  (0 < N)%nat -> 0 <= lambda -> 0 <= t <= 1 ->
  let J := linear N lambda eps m p x_w x_l in
  J (fun k => t * theta k + (1 - t) * theta' k) <= t * J theta + (1 - t) * J theta'.
(* end: T9_convex *)
Proof.
  intros HN Hl Ht J. apply Rnot_lt_le. intros Lt.
  assert (Same : forall a, (forall k, t * theta k + (1 - t) * theta' k = a k) ->
    J (fun k => t * theta k + (1 - t) * theta' k) = J a).
  { intros a E. unfold J, linear, objective, loss, penalty. f_equal; [|f_equal]; apply mean_ext; intros i _;
      rewrite 2!(score_ext p _ a _ (fun k _ => E k)); easy. }
  destruct (Req_dec t 0) as [T0|T0].
  { rewrite (Same theta') in Lt by (intros; rewrite T0; ring). rewrite T0 in Lt. lra. }
  destruct (Req_dec t 1) as [T1|T1].
  { rewrite (Same theta) in Lt by (intros; rewrite T1; ring). rewrite T1 in Lt. lra. }
  assert (T : 0 < t < 1) by (split; [destruct (Rdichotomy _ _ T0)|destruct (Rdichotomy _ _ T1)]; lra).
  pose proof (linear_strict N p lambda eps m x_w x_l theta theta' t HN Hl T (Rlt_le _ _ Lt)) as U.
  pose proof (linear_kernel N p lambda eps m x_w x_l theta theta' Hl U) as E. fold J in E.
  assert (E' : J (fun k => t * theta k + (1 - t) * theta' k) = J theta').
  { apply linear_kernel; [easy|]. intros i Hi. destruct (U i Hi) as [Ud Us]. unfold Dv, Sv in *.
    rewrite 2!score_diff in Ud, Us. rewrite 2!score_diff, 2!score_mix.
    split; [nra|]. intros Hp. specialize (Us Hp). nra. }
  rewrite E', E in Lt. lra.
Qed.

(* J is strictly convex iff 0 is the only v that is unseen. *)
(* begin: T9_strictly_convex *)
Theorem T9_strictly_convex (N p : nat) (lambda eps : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) :
  (0 < N)%nat -> 0 <= lambda ->
  strictly_convex p (linear N lambda eps m p x_w x_l) <->
  (forall v, unseen N lambda p x_w x_l v ->
    forall k, (k < p)%nat -> v k = 0).
(* end: T9_strictly_convex *)
Proof.
  intros HN Hl.
  split.
  - intros SC v H k Hk. destruct (Req_dec (v k) 0) as [|Hne]; [easy|exfalso].
    assert (Z : forall a,
      linear N lambda eps m p x_w x_l (fun k => a * v k) = linear N lambda eps m p x_w x_l (fun _ => 0)).
    { intros a. apply linear_kernel; [easy|]. intros i Hi. destruct (H i Hi) as [E E'].
      unfold Dv, Sv in *. rewrite 2!score_diff.
      assert (Sc : forall x, score p (fun k => a * v k) x - score p (fun _ => 0) x = a * score p v x).
      { intros x. unfold score. rewrite <- sum_scal, <- sum_minus. apply sum_ext. intros. ring. }
      rewrite 2!Sc. split; [nra|]. intros Hp. specialize (E' Hp). nra. }
    pose proof (SC (fun k => 1 * v k) (fun k => 0 * v k) (1 / 2) ltac:(lra)) as C.
    cbv beta in C. specialize (C ltac:(exists k; split; [easy|intros E; apply Hne; lra])).
    rewrite (Z 1), (Z 0) in C.
    assert (E : linear N lambda eps m p x_w x_l (fun k => 1 / 2 * (1 * v k) + (1 - 1 / 2) * (0 * v k))
      = linear N lambda eps m p x_w x_l (fun k => 1 / 2 * v k)).
    { unfold linear, objective, loss, penalty. f_equal; [|f_equal]; apply mean_ext; intros i _;
        rewrite 2!(score_ext p (fun k => 1 / 2 * (1 * v k) + (1 - 1 / 2) * (0 * v k)) (fun k => 1 / 2 * v k))
        by (intros; field); easy. }
    rewrite E, (Z (1 / 2)) in C. lra.
  - intros H theta theta' t Ht (k & Hk & Hne). apply Rnot_le_lt. intros Le. apply Hne.
    cut (theta k - theta' k = 0); [lra|].
    apply (H (fun k => theta k - theta' k)); [|easy]. now apply (linear_strict N p lambda eps m x_w x_l theta theta' t).
Qed.

(* With lambda > 0 that is: the stacked matrix [X_w; X_l] has full column rank. *)
(* begin: T9_full_column_rank *)
Theorem T9_full_column_rank (N p : nat) (lambda eps : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) :
  (0 < N)%nat -> 0 < lambda ->
  strictly_convex p (linear N lambda eps m p x_w x_l) <->
  (forall v,
    (forall i, (i < N)%nat -> score p v (x_w i) = 0 /\ score p v (x_l i) = 0) ->
    forall k, (k < p)%nat -> v k = 0).
(* end: T9_full_column_rank *)
Proof.
  intros HN Hl. rewrite (T9_strictly_convex N p lambda eps m x_w x_l HN (Rlt_le _ _ Hl)).
  split; intros H v Hv; apply H; intros i Hi; specialize (Hv i Hi); unfold Dv, Sv in *.
  - destruct Hv as [-> ->]. split; intros; ring.
  - destruct Hv as [D S]. specialize (S Hl). lra.
Qed.

(* A change v of the weights changes J nowhere iff it is unseen; and from one minimiser the unseen changes lead to all
   others. *)
(* begin: T9_unseen *)
Theorem T9_unseen (N p : nat) (lambda eps : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) :
  (0 < N)%nat -> 0 <= lambda ->
  let J := linear N lambda eps m p x_w x_l in
  (forall v, (forall theta, J (fun k => theta k + v k) = J theta) <->
    unseen N lambda p x_w x_l v) /\
  (forall theta theta', (forall t, J theta <= J t) ->
    (forall t, J theta' <= J t) <->
    unseen N lambda p x_w x_l (fun k => theta k - theta' k)).
(* end: T9_unseen *)
Proof.
  intros HN Hl J. split.
  - intros v. split.
    + intros H.
      assert (U : unseen N lambda p x_w x_l (fun k => (0 + v k + v k) - 0)).
      { apply (linear_strict N p lambda eps m x_w x_l (fun k => 0 + v k + v k) (fun _ => 0) (1 / 2)); [easy|easy|lra|].
        fold J. rewrite (H (fun k => 0 + v k)), (H (fun _ => 0)).
        assert (E : J (fun k => 1 / 2 * (0 + v k + v k) + (1 - 1 / 2) * 0) = J (fun k => 0 + v k)).
        { apply linear_kernel; [easy|]. intros i Hi. unfold Dv, Sv.
          rewrite 2!(score_0 p (fun k => _ - _)) by (intros; field). split; intros; ring. }
        rewrite E, (H (fun _ => 0)). lra. }
      intros i Hi. destruct (U i Hi) as [D S]. unfold Dv, Sv in *.
      assert (Sc : forall x, score p (fun k => 0 + v k + v k - 0) x = 2 * score p v x)
        by (intros; unfold score; rewrite <- sum_scal; apply sum_ext; intros; ring).
      rewrite 2!Sc in D, S. split; [lra|]. intros Hp. specialize (S Hp). lra.
    + intros U theta. apply linear_kernel; [easy|]. intros i Hi. specialize (U i Hi). unfold Dv, Sv in *.
      rewrite 2!(score_ext p (fun k => theta k + v k - theta k) v) by (intros; ring). easy.
  - intros theta theta' H. split.
    + intros H'. apply (linear_strict N p lambda eps m x_w x_l theta theta' (1 / 2)); [easy|easy|lra|]. fold J.
      pose proof (H theta'). pose proof (H' theta).
      pose proof (H (fun k => 1 / 2 * theta k + (1 - 1 / 2) * theta' k)). lra.
    + intros U t. unfold J. rewrite <- (linear_kernel N p lambda eps m x_w x_l theta theta' Hl U). apply H.
Qed.

(* If J is strictly convex there is at most one minimiser. *)
(* begin: T9_unique *)
Theorem T9_unique (p : nat) (J : (nat -> R) -> R) (theta theta' : nat -> R) :
  strictly_convex p J -> (forall t, J theta <= J t) -> (forall t, J theta' <= J t) ->
  forall k, (k < p)%nat -> theta k = theta' k.
(* end: T9_unique *)
Proof.
  intros SC H H' k Hk. destruct (Req_dec (theta k) (theta' k)) as [|Hne]; [easy|exfalso].
  pose proof (SC theta theta' (1 / 2) ltac:(lra) (ex_intro _ k (conj Hk Hne))) as C.
  pose proof (H theta'). pose proof (H' theta).
  pose proof (H (fun k => 1 / 2 * theta k + (1 - 1 / 2) * theta' k)). lra.
Qed.

(* ---- Existence ---- *)

(* A direction v along which no d falls, one rises and (where lambda > 0) no s moves *)
(* begin: endless *)
Definition endless (N : nat) (lambda : R) (p : nat) (x_w x_l : nat -> nat -> R)
    (v : nat -> R) : Prop :=
  (forall i, (i < N)%nat -> 0 <= Dv p x_w x_l v i) /\
  (exists i, (i < N)%nat /\ Dv p x_w x_l v i <> 0) /\
  (0 < lambda -> forall i, (i < N)%nat -> Sv p x_w x_l v i = 0).
(* end: endless *)

(* Along it J falls for ever, from everywhere: there is no minimiser. *)
(* begin: T9_endless *)
Theorem T9_endless (N p : nat) (lambda : R) (m : nat -> R) (x_w x_l : nat -> nat -> R)
    (v : nat -> R) :
  0 <= lambda -> endless N lambda p x_w x_l v ->
  let J := linear N lambda 0 m p x_w x_l in
  forall theta t t', t < t' ->
  J (fun k => theta k + t' * v k) < J (fun k => theta k + t * v k).
(* end: T9_endless *)
Proof.
  intros Hl (HD & (i & Hi & Hne) & HS) J theta t t' Ht. unfold J, linear, objective.
  assert (P : lambda * penalty N (fun i => score p (fun k => theta k + t' * v k) (x_w i))
      (fun i => score p (fun k => theta k + t' * v k) (x_l i))
    = lambda * penalty N (fun i => score p (fun k => theta k + t * v k) (x_w i))
      (fun i => score p (fun k => theta k + t * v k) (x_l i))).
  { destruct (Rle_lt_or_eq_dec 0 lambda Hl) as [Hp|<-]; [|ring]. f_equal. apply mean_ext. intros j Hj.
    rewrite 4!score_plus. f_equal. specialize (HS Hp j Hj). unfold Sv in HS.
    replace (score p theta (x_w j) + t' * score p v (x_w j) + (score p theta (x_l j) + t' * score p v (x_l j)))
      with (score p theta (x_w j) + score p theta (x_l j) + t' * (score p v (x_w j) + score p v (x_l j))) by ring.
    rewrite HS. replace (score p v (x_w j)) with (- score p v (x_l j)) by lra. ring. }
  rewrite P. apply Rplus_lt_compat_r.
  assert (Z : forall j,
    score p (fun k => theta k + t' * v k) (x_w j) - score p (fun k => theta k + t' * v k) (x_l j) - m j
    = score p (fun k => theta k + t * v k) (x_w j) - score p (fun k => theta k + t * v k) (x_l j) - m j
      + (t' - t) * Dv p x_w x_l v j).
  { intros j. rewrite 4!score_plus. unfold Dv. ring. }
  apply (mean_lt N _ _ i); [|easy|].
  - intros j Hj. rewrite Z. destruct (Req_dec (Dv p x_w x_l v j) 0) as [E|E].
    + rewrite E. right. f_equal. ring.
    + left. apply pair_loss_decreasing. specialize (HD j Hj). nra.
  - rewrite Z. apply pair_loss_decreasing. specialize (HD i Hi). nra.
Qed.

(* A gradient may prove that there is no such v: if there are y, positive in every entry, and w, 0 without the term,
   with D' y + S' w = 0. *)
(* begin: T9_certificate *)
Theorem T9_certificate (N p : nat) (lambda : R) (x_w x_l : nat -> nat -> R)
    (y w : nat -> R) :
  (0 < lambda \/ forall i, (i < N)%nat -> w i = 0) ->
  (forall i, (i < N)%nat -> 0 < y i) ->
  (forall k, (k < p)%nat ->
    sum N (fun i => (x_w i k - x_l i k) * y i)
      + sum N (fun i => (x_w i k + x_l i k) * w i) = 0) ->
  ~ exists v, endless N lambda p x_w x_l v.
(* end: T9_certificate *)
Proof.
  intros Hl Hy H (v & HD & (i & Hi & Hne) & HS).
  assert (E : sum N (fun i => Dv p x_w x_l v i * y i) + sum N (fun i => Sv p x_w x_l v i * w i) = 0).
  { transitivity (sum p (fun k => v k * (sum N (fun i => (x_w i k - x_l i k) * y i)
      + sum N (fun i => (x_w i k + x_l i k) * w i)))).
    - rewrite <- sum_plus.
      rewrite (sum_ext N _ (fun i => sum p (fun k => v k * ((x_w i k - x_l i k) * y i + (x_w i k + x_l i k) * w i)))).
      + rewrite sum_swap. apply sum_ext. intros k _. rewrite sum_scal, sum_plus. easy.
      + intros j _. unfold Dv, Sv, score. rewrite <- sum_minus, <- sum_plus, <- 2!sum_scal_r, <- sum_plus.
        apply sum_ext. intros. ring.
    - apply sum_0. intros k Hk. rewrite H by easy. ring. }
  rewrite (sum_0 N (fun i => Sv p x_w x_l v i * w i)), Rplus_0_r in E
    by (intros j Hj; destruct Hl as [Hl|Hl]; [rewrite (HS Hl) by easy|rewrite Hl by easy]; ring).
  assert (Q : forall j, (j < N)%nat -> 0 <= Dv p x_w x_l v j * y j)
    by (intros j Hj; specialize (HD j Hj); specialize (Hy j Hj); nra).
  pose proof (sum_eq_0 N _ Q E i Hi) as F. cbv beta in F. specialize (Hy i Hi). nra.
Qed.

(* The term does not bound margins. Data are antisymmetric when x_l = -x_w, separable when one v ranks every pair right.
   On such data the penalty is 0 at all weights, J has no minimiser whatever lambda is, it comes as near to 0 as one
   likes along v, and to come near 0 every margin d_i must pass every number M. *)
(* begin: T9_diverges *)
Theorem T9_diverges (N p : nat) (lambda : R) (x_w x_l : nat -> nat -> R)
    (v : nat -> R) :
  (0 < N)%nat -> 0 <= lambda ->
  (forall i k, x_l i k = - x_w i k) ->
  (forall i, (i < N)%nat -> score p v (x_w i) > score p v (x_l i)) ->
  let J := linear N lambda 0 no_margin p x_w x_l in
  (forall theta,
    penalty N (fun i => score p theta (x_w i)) (fun i => score p theta (x_l i)) = 0) /\
  (forall theta, exists theta', J theta' < J theta) /\
  (forall e, 0 < e -> exists t, J (fun k => t * v k) < e) /\
  (forall M, exists e, 0 < e /\
    forall theta, J theta < e -> forall i, (i < N)%nat ->
    score p theta (x_w i) - score p theta (x_l i) > M).
(* end: T9_diverges *)
Proof.
  intros HN Hl Anti Sep J.
  assert (Op : forall theta i, score p theta (x_l i) = - score p theta (x_w i))
    by (intros; unfold score; rewrite <- sum_opp; apply sum_ext; intros; rewrite Anti; ring).
  assert (P : forall theta, penalty N (fun i => score p theta (x_w i)) (fun i => score p theta (x_l i)) = 0)
    by (intros theta; apply mean_0; intros i _; rewrite Op; ring).
  assert (JL : forall theta, J theta = mean N (fun i => softplus (- (score p theta (x_w i) - score p theta (x_l i))))).
  { intros theta. unfold J, linear, objective. rewrite P. unfold loss, no_margin. rewrite Rmult_0_r, Rplus_0_r.
    apply mean_ext. intros i _. rewrite pair_loss_0. f_equal. ring. }
  assert (En : endless N lambda p x_w x_l v).
  { unfold endless, Dv, Sv. repeat split.
    - intros i Hi. specialize (Sep i Hi). lra.
    - exists 0%nat. split; [easy|]. specialize (Sep 0%nat HN). lra.
    - intros _ i _. rewrite Op. ring. }
  split; [easy|]. split; [|split].
  - intros theta. exists (fun k => theta k + 1 * v k).
    pose proof (T9_endless N p lambda no_margin x_w x_l v Hl En theta 0 1 ltac:(lra)) as L.
    fold J in L. cbv zeta in L. fold J in L. apply (Rlt_le_trans _ _ _ L). right.
    unfold J, linear, objective, loss, penalty.
    f_equal; [|f_equal]; apply mean_ext; intros i _;
      rewrite 2!(score_ext p (fun k => theta k + 0 * v k) theta) by (intros; ring); easy.
  - intros e He.
    (* the smallest margin of v *)
    assert (Min : exists a, 0 < a /\ forall i, (i < N)%nat -> a <= score p v (x_w i) - score p v (x_l i)).
    { clear - Sep. revert Sep. generalize N. intros n. induction n as [|n IH]; intros Sep.
      - exists 1. split; [lra|]. intros; lia.
      - destruct IH as (a & Ha & H); [intros; apply Sep; lia|]. specialize (Sep n ltac:(lia)).
        exists (Rmin a (score p v (x_w n) - score p v (x_l n))). split; [apply Rmin_pos; lra|].
        intros i Hi. destruct (Nat.eq_dec i n) as [->|]; [apply Rmin_r|].
        apply (Rle_trans _ _ _ (Rmin_l _ _)). apply H. lia. }
    destruct Min as (a & Ha & H).
    (* softplus (- t a) < exp (- t a) < e for t = - ln (e / 2) / a or more *)
    set (t := Rabs (ln (e / 2)) / a). exists t. rewrite JL. apply Rle_lt_trans with (e / 2); [|lra].
    rewrite <- (mean_const N (e / 2) HN). apply mean_le; [easy|]. intros i Hi. specialize (H i Hi).
    assert (Sc : forall x, score p (fun k => t * v k) x = t * score p v x)
      by (intros; unfold score; rewrite <- sum_scal; apply sum_ext; intros; ring).
    rewrite 2!Sc. set (d := t * score p v (x_w i) - t * score p v (x_l i)).
    assert (T : 0 <= t) by (apply Rmult_le_pos; [apply Rabs_pos|left; now apply Rinv_0_lt_compat]).
    assert (D : Rabs (ln (e / 2)) <= d).
    { apply Rle_trans with (t * a); [right; unfold t; field; lra|]. unfold d. nra. }
    apply Rle_trans with (exp (- d)).
    + unfold softplus. rewrite <- (ln_exp (exp (- d))) at 2. pose proof (exp_pos (- d)).
      destruct (exp_ge (exp (- d))) as [X|X]; [left; apply ln_increasing; lra|rewrite X; lra].
    + rewrite <- (exp_ln (e / 2)) by lra. pose proof (Rle_abs (- ln (e / 2))) as X. rewrite Rabs_Ropp in X.
      destruct (Req_dec (- d) (ln (e / 2))) as [->|Hne]; [lra|left; apply exp_increasing; lra].
  - intros M. pose proof (pairs_pos N HN) as Np. pose proof (softplus_pos (- M)) as Sp.
    exists (softplus (- M) / INR N). split; [now apply Rdiv_lt_0_compat|].
    intros theta H i Hi. apply Rnot_le_gt. intros C. apply (Rlt_not_le _ _ H). rewrite JL.
    apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat|].
    apply Rle_trans with (softplus (- (score p theta (x_w i) - score p theta (x_l i)))).
    + destruct C as [C|C]; [left; apply softplus_increasing; lra|rewrite C; lra].
    + apply (sum_term N (fun i => softplus (- (score p theta (x_w i) - score p theta (x_l i))))); [|easy].
      intros. left. apply softplus_pos.
Qed.

(* ---- One-hot items ---- *)

(* Classical Bradley-Terry: pair i compares items a i and b i, each item has one score. Two items are connected when a
   path of comparisons leads from one to the other. *)
(* begin: items *)
Definition one_hot (a : nat -> nat) (i k : nat) : R := if Nat.eqb k (a i) then 1 else 0.

Inductive connected (N : nat) (a b : nat -> nat) : nat -> nat -> Prop :=
  | compared i : (i < N)%nat -> connected N a b (a i) (b i)
  | same_item x : connected N a b x x
  | backwards x y : connected N a b x y -> connected N a b y x
  | onwards x y z : connected N a b x y -> connected N a b y z -> connected N a b x z.
(* end: items *)

(* The loss leaves free exactly the v that are constant on every connected component, so one shift for each. With the
   term only those are free that are 0 at every item that is compared. *)
(* begin: T9_items *)
Theorem T9_items (N p : nat) (a b : nat -> nat) (v : nat -> R) :
  (forall i, (i < N)%nat -> (a i < p)%nat /\ (b i < p)%nat) ->
  let D := Dv p (one_hot a) (one_hot b) v in
  let S := Sv p (one_hot a) (one_hot b) v in
  ((forall i, (i < N)%nat -> D i = 0) <->
    (forall x y, connected N a b x y -> v x = v y)) /\
  ((forall i, (i < N)%nat -> D i = 0 /\ S i = 0) <->
    (forall i, (i < N)%nat -> v (a i) = 0 /\ v (b i) = 0)).
(* end: T9_items *)
Proof.
  intros Hp D S.
  assert (Pick : forall (c : nat -> nat) i, (c i < p)%nat -> score p v (one_hot c i) = v (c i)).
  { intros c i Hc. unfold score, one_hot. rewrite <- (sum_pick p (c i) v Hc). apply sum_ext.
    intros k _. destruct (Nat.eqb k (c i)); ring. }
  assert (E : forall i, (i < N)%nat -> D i = v (a i) - v (b i) /\ S i = v (a i) + v (b i)).
  { intros i Hi. destruct (Hp i Hi) as [Ha Hb]. unfold D, S, Dv, Sv. now rewrite 2!Pick. }
  split; split.
  - intros H x y C. induction C as [i Hi|x|x y _ IH|x y z _ IH _ IH']; [|easy|easy|congruence].
    destruct (E i Hi) as [E1 _]. specialize (H i Hi). lra.
  - intros H i Hi. destruct (E i Hi) as [-> _]. rewrite (H (a i) (b i)); [ring|now apply compared].
  - intros H i Hi. destruct (E i Hi) as [E1 E2]. destruct (H i Hi). lra.
  - intros H i Hi. destruct (E i Hi) as [-> ->]. destruct (H i Hi) as [-> ->]. split; ring.
Qed.

(* The term by itself leaves a component free iff it is bipartite. For an item x: some v with v x <> 0 has S v = 0 iff
   the items that are connected with x can be given two colours such that every comparison is between different ones. *)
(* begin: T9_bipartite *)
Theorem T9_bipartite (N p : nat) (a b : nat -> nat) (x : nat) :
  (forall i, (i < N)%nat -> (a i < p)%nat /\ (b i < p)%nat) ->
  (exists v, v x <> 0 /\
    forall i, (i < N)%nat -> Sv p (one_hot a) (one_hot b) v i = 0) <->
  (exists colour : nat -> bool,
    forall i, (i < N)%nat -> connected N a b x (a i) -> colour (a i) <> colour (b i)).
(* end: T9_bipartite *)
Proof.
  intros Hp.
  assert (E : forall v i, (i < N)%nat -> Sv p (one_hot a) (one_hot b) v i = v (a i) + v (b i)).
  { intros v i Hi. destruct (Hp i Hi) as [Ha Hb]. unfold Sv.
    assert (Pick : forall (c : nat -> nat), (c i < p)%nat -> score p v (one_hot c i) = v (c i)).
    { intros c Hc. unfold score, one_hot. rewrite <- (sum_pick p (c i) v Hc). apply sum_ext.
      intros k _. destruct (Nat.eqb k (c i)); ring. }
    now rewrite 2!Pick. }
  split.
  - intros (v & Hx & H). exists (fun y => if Rle_dec 0 (v y) then true else false). intros i Hi C.
    assert (Size : forall y z, connected N a b y z -> Rabs (v y) = Rabs (v z)).
    { intros y z Hyz. induction Hyz as [k Hk|y|y z _ IH|y z u _ IH _ IH']; [|easy|easy|congruence].
      specialize (H k Hk). rewrite E in H by easy. rewrite <- (Rabs_Ropp (v (b k))). f_equal. lra. }
    pose proof (Size _ _ C) as Sx. apply Rabs_pos_lt in Hx. rewrite Sx in Hx.
    specialize (H i Hi). rewrite E in H by easy.
    destruct (Rle_dec 0 (v (a i))), (Rle_dec 0 (v (b i))); try easy; exfalso.
    + replace (v (a i)) with 0 in Hx by lra. rewrite Rabs_R0 in Hx. lra.
    + lra.
  - intros (colour & H).
    assert (Dec : forall y, {connected N a b x y} + {~ connected N a b x y}).
    { intros y. destruct (ClassicalDedekindReals.sig_not_dec (connected N a b x y)) as [D|D];
        [left; now apply NNPP|now right]. }
    exists (fun y => if Dec y then (if colour y then 1 else -1) else 0). split.
    + destruct (Dec x) as [_|C]; [destruct (colour x); lra|exfalso; apply C; constructor].
    + intros i Hi. rewrite E by easy. pose proof (compared N a b i Hi) as Ci.
      destruct (Dec (a i)) as [C|C], (Dec (b i)) as [C'|C'].
      * specialize (H i Hi C). destruct (colour (a i)), (colour (b i)); try easy; ring.
      * exfalso. apply C'. now apply onwards with (a i).
      * exfalso. apply C. apply onwards with (b i); [easy|now apply backwards].
      * ring.
Qed.
