(* T8. Bounded mean, at rest: a universal constant. *)
From Refrm Require Import Common.

(* The Lambert function W(e^y) is the one number c with c e^c = e^y. It exists, so that what follows is not empty. *)
(* begin: T8_constant_exists *)
Theorem T8_constant_exists (y : R) :
  exists c, c * exp c = exp y /\ forall c', c' * exp c' = exp y -> c' = c.
(* end: T8_constant_exists *)
Proof.
  assert (Hc : continuity (fun c => c * exp c - exp y)).
  { intros x. apply derivable_continuous_pt, ex_derive_Reals_0. auto_derive. easy. }
  pose proof (exp_pos y) as Hy.
  assert (Hlo : 0 * exp 0 - exp y < 0) by lra.
  assert (Hhi : 0 < (1 + exp y) * exp (1 + exp y) - exp y).
  { pose proof (exp_ge (1 + exp y)). nra. }
  destruct (IVT (fun c => c * exp c - exp y) 0 (1 + exp y) Hc ltac:(lra) Hlo Hhi) as (c & Hcb & E).
  exists c. split; [lra|]. intros c' E'.
  assert (Hm : forall a b, 0 <= a -> a < b -> a * exp a < b * exp b).
  { intros a b Ha Hab. pose proof (exp_increasing a b Hab). pose proof (exp_pos a). nra. }
  assert (0 <= c').
  { apply Rnot_lt_le. intros Hn. pose proof (exp_pos c'). nra. }
  destruct (Rtotal_order c c') as [H'|[H'|H']]; [|easy|].
  - pose proof (Hm c c' (proj1 Hcb) H'). lra.
  - pose proof (Hm c' c H H'). lra.
Qed.

(* c is positive *)
Lemma lambert_pos c y : c * exp c = exp y -> 0 < c.
Proof. intros E. pose proof (exp_pos c). pose proof (exp_pos y). apply Rnot_le_lt. intros H'. nra. Qed.

(* c e^(d-m) = e^(d-1-c) >= d - c *)
Lemma key_step m c d : c * exp c = exp (m - 1) -> c * exp (d - m) = exp (d - 1 - c).
Proof.
  intros E. replace (d - 1 - c) with ((m - 1) + (d - m) + - c) by ring.
  rewrite 2!exp_plus, <- E, exp_Ropp. pose proof (exp_pos c). field. lra.
Qed.

Lemma force_times m d : d * sigmoid (- (d - m)) * (1 + exp (d - m)) = d.
Proof. unfold sigmoid. rewrite Ropp_involutive. pose proof (exp_pos (d - m)). field. lra. Qed.

(* The key step: d sigma(-(d - m)) <= W(e^(m-1)) for every d. With m = 0 the right side is W(1/e). *)
(* begin: T8_key *)
Theorem T8_key (m c d : R) :
  c * exp c = exp (m - 1) -> d * sigmoid (- (d - m)) <= c.
(* end: T8_key *)
Proof.
  intros E. pose proof (exp_pos (d - m)). pose proof (key_step m c d E). pose proof (exp_ge (d - 1 - c)).
  apply (Rmult_le_reg_r (1 + exp (d - m))); [lra|]. rewrite force_times. lra.
Qed.

(* It is reached at d = 1 + W(e^(m-1)), and only there. *)
(* begin: T8_key_only *)
Theorem T8_key_only (m c d : R) :
  c * exp c = exp (m - 1) -> d * sigmoid (- (d - m)) = c <-> d = 1 + c.
(* end: T8_key_only *)
Proof.
  intros E. pose proof (exp_pos (d - m)) as Hp. pose proof (key_step m c d E) as H. pose proof (force_times m d) as Q.
  split.
  - intros K. rewrite K in Q. destruct (Req_dec (d - 1 - c) 0) as [|Hn]; [lra|exfalso].
    pose proof (exp_ineq1 _ Hn). lra.
  - intros D. replace (d - 1 - c) with 0 in H by lra. rewrite exp_0 in H.
    apply (Rmult_eq_reg_r (1 + exp (d - m))); [rewrite Q|]; lra.
Qed.

(* Everywhere, at rest or not: 2 lambda mean s^2 = mean d (sigma(m - d) - eps) + theta . grad J, for a linear head. *)
(* begin: T8_identity *)
Theorem T8_identity (N p : nat) (lambda eps : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) :
  let J := linear N lambda eps m p x_w x_l in
  let d := fun i => score p theta (x_w i) - score p theta (x_l i) in
  let s := fun i => score p theta (x_w i) + score p theta (x_l i) in
  2 * lambda * mean N (fun i => s i ^ 2)
  = mean N (fun i => d i * (sigmoid (m i - d i) - eps))
    + sum p (fun k => theta k * partial J k theta).
(* end: T8_identity *)
Proof.
  intros J d s.
  rewrite (sum_ext p _ (fun k => theta k * gradient N lambda eps m p x_w x_l theta k))
    by (intros; unfold J; now rewrite partial_linear).
  rewrite gradient_dot.
  rewrite (mean_ext N (fun i => slope _ _ * _) (fun i => - (d i * (sigmoid (m i - d i) - eps)))).
  - rewrite (mean_ext N (fun i => 2 * _ * _) (fun i => 2 * s i ^ 2)) by (intros; unfold s; ring).
    rewrite mean_opp, mean_scal. ring.
  - intros i _. rewrite slope_eq. unfold d.
    replace (- (score p theta (x_w i) - score p theta (x_l i) - m i))
      with (m i - (score p theta (x_w i) - score p theta (x_l i))) by ring. ring.
Qed.

(* So, with C i the maximum of d (sigma(m_i - d) - eps) over d, or any number above it: where theta . grad J <= 0, at
   rest for instance, mean s^2 <= mean C / (2 lambda); and where theta . grad J <= - mu |theta|^2, as at rest under
   weight decay, mean s^2 <= (mean C - mu |theta|^2) / (2 lambda). *)
(* begin: T8_bound *)
Theorem T8_bound (N p : nat) (lambda eps mu : R) (m C : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) :
  (0 < N)%nat -> 0 < lambda ->
  (forall i d, (i < N)%nat -> d * (sigmoid (m i - d) - eps) <= C i) ->
  let J := linear N lambda eps m p x_w x_l in
  let s := fun i => score p theta (x_w i) + score p theta (x_l i) in
  let size := sum p (fun k => theta k ^ 2) in
  let B := (mean N C - mu * size) / (2 * lambda) in
  sum p (fun k => theta k * partial J k theta) <= - mu * size ->
  mean N (fun i => s i ^ 2) <= B /\ Rabs (mean N (fun i => s i / 2)) <= sqrt B / 2.
(* end: T8_bound *)
Proof.
  intros HN Hl HC J s size B H.
  pose proof (T8_identity N p lambda eps m x_w x_l theta) as I. cbv zeta in I. fold J in I. cbv beta in I.
  set (d := fun i => score p theta (x_w i) - score p theta (x_l i)).
  assert (K : mean N (fun i => d i * (sigmoid (m i - d i) - eps)) <= mean N C)
    by (apply mean_le; [easy|intros i Hi; now apply HC]).
  unfold d in K. cbv beta in K.
  assert (P : mean N (fun i => s i ^ 2) <= B).
  { apply (Rmult_le_reg_r (2 * lambda)); [lra|].
    replace (B * (2 * lambda)) with (mean N C - mu * size) by (unfold B; field; lra). unfold s. lra. }
  split; [easy|].
  rewrite (mean_ext N _ (fun i => / 2 * s i)) by (intros; field).
  rewrite mean_scal, Rabs_mult, (Rabs_pos_eq (/ 2)) by lra.
  pose proof (mean_square N s HN) as Q.
  assert (Rabs (mean N s) <= sqrt B); [|lra].
  rewrite <- sqrt_Rsqr_abs. apply sqrt_le_1_alt. unfold Rsqr. lra.
Qed.

Lemma stationary N p lambda mu eps m x_w x_l theta :
  (forall k, (k < p)%nat -> is_derive (fun t =>
    linear N lambda eps m p x_w x_l (put theta k t) + mu * sum p (fun j => put theta k t j ^ 2)) (theta k) 0) ->
  2 * lambda * mean N (fun i => (score p theta (x_w i) + score p theta (x_l i)) ^ 2)
  + 2 * mu * sum p (fun k => theta k ^ 2)
  = mean N (fun i => (score p theta (x_w i) - score p theta (x_l i))
                     * - slope eps (score p theta (x_w i) - score p theta (x_l i) - m i)).
Proof.
  intros H.
  assert (G : forall k, (k < p)%nat -> gradient N lambda eps m p x_w x_l theta k + mu * (2 * theta k) = 0).
  { intros k Hk. refine (is_derive_same _ _ _ _ _ (H k Hk)).
    apply is_derive_Rplus; [now apply is_derive_linear|]. apply is_derive_Rscal.
    apply (is_derive_Rext (fun t => sum p (fun j => theta j ^ 2) - theta k ^ 2 + t ^ 2)).
    { intros t. symmetry. now apply (sum_put p (fun _ x => x ^ 2)). }
    auto_derive; [easy|ring]. }
  assert (S : sum p (fun k => theta k * gradient N lambda eps m p x_w x_l theta k)
              = - (2 * mu * sum p (fun k => theta k ^ 2))).
  { rewrite <- sum_scal, <- sum_opp. apply sum_ext. intros k Hk. specialize (G k Hk). nra. }
  rewrite gradient_dot in S.
  rewrite (mean_ext N (fun i => _ * - slope eps _) (fun i =>
    - (slope eps (score p theta (x_w i) - score p theta (x_l i) - m i)
       * (score p theta (x_w i) - score p theta (x_l i))))) by (intros; ring).
  rewrite (mean_ext N (fun i => 2 * _ * _) (fun i => 2 * (score p theta (x_w i) + score p theta (x_l i)) ^ 2)) in S
    by (intros; ring).
  rewrite mean_scal in S. rewrite mean_opp. lra.
Qed.

(* Weight decay lowers the bound: by 2 mu |theta|^2 / (2 lambda). *)
(* begin: T8_weight_decay *)
Theorem T8_weight_decay (N p : nat) (lambda mu c : R) (x_w x_l : nat -> nat -> R)
    (theta : nat -> R) :
  (0 < N)%nat -> 0 < lambda -> c * exp c = exp (-1) ->
  let J := fun theta => linear N lambda 0 no_margin p x_w x_l theta
    + mu * sum p (fun k => theta k ^ 2) in
  (forall k, (k < p)%nat -> is_derive (fun t => J (put theta k t)) (theta k) 0) ->
  mean N (fun i => (score p theta (x_w i) + score p theta (x_l i)) ^ 2)
  <= (c - 2 * mu * sum p (fun k => theta k ^ 2)) / (2 * lambda).
(* end: T8_weight_decay *)
Proof.
  intros HN Hl E J H. apply stationary in H.
  assert (K : mean N (fun i => (score p theta (x_w i) - score p theta (x_l i))
    * - slope 0 (score p theta (x_w i) - score p theta (x_l i) - no_margin i)) <= mean N (fun _ => c)).
  { apply mean_le; [easy|]. intros i _. rewrite slope_eq. unfold no_margin.
    set (d := score p theta (x_w i) - score p theta (x_l i)).
    pose proof (T8_key 0 c d) as K. replace (0 - 1) with (-1) in K by ring. specialize (K E). lra. }
  rewrite mean_const in K by easy. apply (Rmult_le_reg_r (2 * lambda)); [lra|].
  replace ((c - 2 * mu * sum p (fun k => theta k ^ 2)) / (2 * lambda) * (2 * lambda))
    with (c - 2 * mu * sum p (fun k => theta k ^ 2)) by (field; lra). lra.
Qed.

Lemma bound N p lambda mu eps m x_w x_l theta c :
  (0 < N)%nat -> 0 < lambda -> 0 <= mu ->
  (forall i d, (i < N)%nat -> d * - slope eps (d - m i) <= c i) ->
  (forall k, (k < p)%nat -> is_derive (fun t =>
    linear N lambda eps m p x_w x_l (put theta k t) + mu * sum p (fun j => put theta k t j ^ 2)) (theta k) 0) ->
  mean N (fun i => (score p theta (x_w i) + score p theta (x_l i)) ^ 2) <= mean N c / (2 * lambda).
Proof.
  intros HN Hl Hmu Hc H. apply stationary in H.
  assert (0 <= sum p (fun k => theta k ^ 2)) by (apply sum_ge_0; intros; apply pow2_ge_0).
  assert (mean N (fun i => (score p theta (x_w i) - score p theta (x_l i))
    * - slope eps (score p theta (x_w i) - score p theta (x_l i) - m i)) <= mean N c)
    by (apply mean_le; [easy|intros; now apply Hc]).
  apply (Rmult_le_reg_r (2 * lambda)); [lra|].
  replace (mean N c / (2 * lambda) * (2 * lambda)) with (mean N c) by (field; lra).
  nra.
Qed.

(* Where every partial derivative of J (with or without weight decay) in the p weights of a linear head is 0,
   mean s^2 <= W(1/e) / (2 lambda), whatever the number of pairs and of weights and whatever the features are.
   The head stands on anything: x_w i and x_l i are then the features that it is given. *)
(* begin: T8_universal_bound *)
Theorem T8_universal_bound (N p : nat) (lambda mu c : R) (x_w x_l : nat -> nat -> R)
    (theta : nat -> R) :
  (0 < N)%nat -> 0 < lambda -> 0 <= mu -> c * exp c = exp (-1) ->
  let J := fun theta => linear N lambda 0 no_margin p x_w x_l theta
    + mu * sum p (fun k => theta k ^ 2) in
  (forall k, (k < p)%nat -> is_derive (fun t => J (put theta k t)) (theta k) 0) ->
  mean N (fun i => (score p theta (x_w i) + score p theta (x_l i)) ^ 2)
    <= c / (2 * lambda).
(* end: T8_universal_bound *)
Proof.
  intros HN Hl Hmu E J H. rewrite <- (mean_const N c HN). apply (bound N p lambda mu 0 no_margin); try easy.
  intros i d _. rewrite slope_eq. replace (- (0 - sigmoid (- (d - no_margin i)))) with
    (sigmoid (- (d - no_margin i))) by ring. apply T8_key. rewrite E. f_equal. unfold no_margin. ring.
Qed.

(* The same with a margin m: W(e^(m-1)) in place of W(1/e). With one margin for each pair it is the mean of these. *)
(* begin: T8_margin *)
Theorem T8_margin (N p : nat) (lambda mu : R) (m c : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) :
  (0 < N)%nat -> 0 < lambda -> 0 <= mu ->
  (forall i, (i < N)%nat -> c i * exp (c i) = exp (m i - 1)) ->
  let J := fun theta => linear N lambda 0 m p x_w x_l theta
    + mu * sum p (fun k => theta k ^ 2) in
  (forall k, (k < p)%nat -> is_derive (fun t => J (put theta k t)) (theta k) 0) ->
  mean N (fun i => (score p theta (x_w i) + score p theta (x_l i)) ^ 2)
    <= mean N c / (2 * lambda).
(* end: T8_margin *)
Proof.
  intros HN Hl Hmu E J H. apply (bound N p lambda mu 0 m); try easy.
  intros i d Hi. rewrite slope_eq. replace (- (0 - sigmoid (- (d - m i)))) with (sigmoid (- (d - m i))) by ring.
  now apply T8_key, E.
Qed.

(* The same with smoothed labels and margins >= 0: smoothing does not raise the bound. *)
(* begin: T8_smoothing *)
Theorem T8_smoothing (N p : nat) (lambda mu eps : R) (m c : nat -> R)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) :
  (0 < N)%nat -> 0 < lambda -> 0 <= mu -> 0 <= eps <= 1 / 2 ->
  (forall i, (i < N)%nat -> 0 <= m i /\ c i * exp (c i) = exp (m i - 1)) ->
  let J := fun theta => linear N lambda eps m p x_w x_l theta
    + mu * sum p (fun k => theta k ^ 2) in
  (forall k, (k < p)%nat -> is_derive (fun t => J (put theta k t)) (theta k) 0) ->
  mean N (fun i => (score p theta (x_w i) + score p theta (x_l i)) ^ 2)
    <= mean N c / (2 * lambda).
(* end: T8_smoothing *)
Proof.
  intros HN Hl Hmu He E J H. apply (bound N p lambda mu eps m); try easy.
  intros i d Hi. destruct (E i Hi) as [Hm Ec]. rewrite slope_eq.
  pose proof (T8_key (m i) (c i) d Ec) as K. pose proof (lambert_pos _ _ Ec).
  destruct (Rle_lt_dec 0 d) as [Hd|Hd]; [nra|].
  assert (1 / 2 < sigmoid (- (d - m i))) by (rewrite <- sigmoid_0; apply sigmoid_increasing; lra). nra.
Qed.

(* All that is used of the head: the scores can be scaled. Whatever the model is, multiply all its scores by t: if at
   t = 1 the slope of J in t is not positive (at rest of whatever scales them it is 0), the bound holds. *)
(* begin: T8_scaling *)
Theorem T8_scaling (N : nat) (lambda c slope_at_1 : R) (r_w r_l : nat -> R) :
  (0 < N)%nat -> 0 < lambda -> c * exp c = exp (-1) ->
  is_derive (fun t =>
    objective N lambda 0 no_margin (fun i => t * r_w i) (fun i => t * r_l i))
    1 slope_at_1 ->
  slope_at_1 <= 0 ->
  mean N (fun i => (r_w i + r_l i) ^ 2) <= c / (2 * lambda).
(* end: T8_scaling *)
Proof.
  intros HN Hl E H H0.
  assert (M : forall r : nat -> R, moves N (fun t i => t * r i) 1 r) by (intros r i _; auto_derive; [easy|ring]).
  pose proof (is_derive_same _ _ _ _ (is_derive_objective N lambda 0 no_margin _ _ 1 _ _ (M r_w) (M r_l)) H) as D.
  cbv beta in D.
  rewrite (mean_ext N (fun i => 2 * _ * _) (fun i => 2 * (r_w i + r_l i) ^ 2)), mean_scal in D by (intros; ring).
  assert (K : mean N (fun i => - c) <=
    mean N (fun i => slope 0 (1 * r_w i - 1 * r_l i - no_margin i) * (r_w i - r_l i))).
  { apply mean_le; [easy|]. intros i _. rewrite slope_eq. unfold no_margin.
    replace (1 * r_w i - 1 * r_l i - 0) with (r_w i - r_l i - 0) by ring.
    pose proof (T8_key 0 c (r_w i - r_l i)) as K. replace (0 - 1) with (-1) in K by ring. specialize (K E). lra. }
  rewrite mean_const in K by easy.
  apply (Rmult_le_reg_r (2 * lambda)); [lra|].
  replace (c / (2 * lambda) * (2 * lambda)) with c by (field; lra). lra.
Qed.

(* The bound is attained for every N, lambda and margins: there are a head with one weight, and features, such that the
   weight is at rest and mean s^2 is the bound. There each d_i is 1 + W(e^(m_i - 1)). *)
(* begin: T8_attained *)
Theorem T8_attained (N : nat) (lambda : R) (m c : nat -> R) :
  0 < lambda -> (forall i, c i * exp (c i) = exp (m i - 1)) ->
  exists (x_w x_l : nat -> nat -> R) (theta : nat -> R),
  (forall k, (k < 1)%nat ->
    is_derive (fun t => linear N lambda 0 m 1 x_w x_l (put theta k t)) (theta k) 0) /\
  mean N (fun i => (score 1 theta (x_w i) + score 1 theta (x_l i)) ^ 2)
    = mean N c / (2 * lambda) /\
  (forall i, score 1 theta (x_w i) - score 1 theta (x_l i) = 1 + c i).
(* end: T8_attained *)
Proof.
  intros Hl E. assert (Hc : forall i, 0 < c i) by (intros; now apply (lambert_pos _ _ (E i))).
  set (s := fun i => sqrt (c i / (2 * lambda))).
  assert (Hs : forall i, s i * s i = c i / (2 * lambda))
    by (intros i; apply sqrt_sqrt; left; apply Rdiv_lt_0_compat; [apply Hc|lra]).
  exists (fun i _ => (s i + (1 + c i)) / 2), (fun i _ => (s i - (1 + c i)) / 2), (fun _ => 1).
  unfold score. cbn [sum]. split; [|split].
  - intros k Hk. eapply is_derive_eq; [now apply is_derive_linear|].
    unfold gradient, score. cbn [sum]. rewrite <- mean_scal, <- mean_plus. apply mean_0. intros i _.
    rewrite slope_eq. unfold sigmoid. rewrite Ropp_involutive.
    replace (0 + 1 * ((s i + (1 + c i)) / 2) - (0 + 1 * ((s i - (1 + c i)) / 2)) - m i)
      with (c i + (1 - m i)) by field.
    assert (Ee : exp (c i + (1 - m i)) = / c i).
    { rewrite exp_plus. replace (1 - m i) with (- (m i - 1)) by ring. rewrite exp_Ropp, <- E.
      pose proof (exp_pos (c i)). specialize (Hc i). field. lra. }
    rewrite Ee.
    replace (lambda * _) with (2 * lambda * (s i * s i)) by field. rewrite Hs. specialize (Hc i). field. lra.
  - replace (mean N c / (2 * lambda)) with (/ (2 * lambda) * mean N c) by (unfold Rdiv; ring).
    rewrite <- mean_scal. apply mean_ext. intros i _.
    replace (/ (2 * lambda) * c i) with (s i * s i) by (rewrite Hs; unfold Rdiv; ring). field.
  - intros i. field.
Qed.

(* If the head has a bias without weight decay, it is at rest only where mean s = 0 exactly. *)
(* begin: T8_bias *)
Theorem T8_bias (N : nat) (lambda eps b : R) (m r_w r_l : nat -> R) :
  0 < lambda ->
  is_derive (fun b =>
    objective N lambda eps m (fun i => r_w i + b) (fun i => r_l i + b)) b 0 ->
  mean N (fun i => (r_w i + b) + (r_l i + b)) = 0.
(* end: T8_bias *)
Proof.
  intros Hl H.
  assert (M : forall r : nat -> R, moves N (fun b i => r i + b) b (fun _ => 1))
    by (intros r i _; auto_derive; [easy|ring]).
  pose proof (is_derive_same _ _ _ _ (is_derive_objective N lambda eps m _ _ b _ _ (M r_w) (M r_l)) H) as E.
  rewrite (mean_0 N (fun i => _ * (1 - 1))) in E by (intros; ring).
  rewrite (mean_ext N (fun i => 2 * _ * _) (fun i => 4 * ((r_w i + b) + (r_l i + b)))) in E by (intros; ring).
  rewrite mean_scal in E. nra.
Qed.

(* Taylor's polynomials bound e^x and e^(-x) from below, for x >= 0 *)
Lemma exp_taylor x : 0 <= x -> 1 + x + x ^ 2 / 2 + x ^ 3 / 6 <= exp x.
Proof.
  intros Hx.
  assert (H2 : forall y, 0 <= y -> 0 <= exp y - (1 + y + y ^ 2 / 2)).
  { apply (nonneg _ (fun y => exp y - (1 + y))).
    - intros y. auto_derive; [easy|field].
    - intros y _. pose proof (exp_ge y). lra.
    - rewrite exp_0. field. }
  enough (0 <= exp x - (1 + x + x ^ 2 / 2 + x ^ 3 / 6)) by lra. revert x Hx.
  apply (nonneg _ (fun y => exp y - (1 + y + y ^ 2 / 2))); [|easy|rewrite exp_0; field].
  intros y. auto_derive; [easy|field].
Qed.

Lemma exp_taylor_opp x : 0 <= x -> 1 - x + x ^ 2 / 2 - x ^ 3 / 6 <= exp (- x).
Proof.
  intros Hx.
  assert (H2 : forall y, 0 <= y -> 0 <= 1 - y + y ^ 2 / 2 - exp (- y)).
  { apply (nonneg _ (fun y => exp (- y) - (1 - y))).
    - intros y. auto_derive; [easy|field].
    - intros y _. pose proof (exp_ge (- y)). lra.
    - rewrite Ropp_0, exp_0. field. }
  enough (0 <= exp (- x) - (1 - x + x ^ 2 / 2 - x ^ 3 / 6)) by lra. revert x Hx.
  apply (nonneg _ (fun y => 1 - y + y ^ 2 / 2 - exp (- y))); [|easy|rewrite Ropp_0, exp_0; field].
  intros y. auto_derive; [easy|field].
Qed.

Lemma exp_double x y z a : 0 <= y -> y <= exp x -> a = 2 * x -> z <= y * y -> z <= exp a.
Proof.
  intros H0 H -> Hz. apply (Rle_trans _ _ _ Hz). replace (2 * x) with (x + x) by ring.
  rewrite exp_plus. now apply Rmult_le_compat.
Qed.

(* W(1/e) = 0.2784..., so that the bound is 0.1392... / lambda. *)
(* begin: T8_constant *)
Theorem T8_constant (c : R) :
  c * exp c = exp (-1) -> 0.27846 < c < 0.27847.
(* end: T8_constant *)
Proof.
  intros E.
  assert (Lo : 0.278464 <= exp (- 1.27846)).
  { apply (exp_double (- 1.27846 / 2) 0.527697658); [lra| |lra|lra].
    apply (exp_double (- 1.27846 / 4) 0.726428013); [lra| |lra|lra].
    apply (exp_double (- 1.27846 / 8) 0.852307464); [lra| |lra|lra].
    apply (exp_double (- 1.27846 / 16) 0.923204996); [lra| |lra|lra].
    apply (exp_double (- (1.27846 / 32)) 0.960835572); [lra| |lra|lra].
    pose proof (exp_taylor_opp (1.27846 / 32)). lra. }
  assert (Hi : 3.591129 <= exp 1.27847).
  { apply (exp_double (1.27847 / 2) 1.895027482); [lra| |lra|lra].
    apply (exp_double (1.27847 / 4) 1.376599972); [lra| |lra|lra].
    apply (exp_double (1.27847 / 8) 1.173285972); [lra| |lra|lra].
    apply (exp_double (1.27847 / 16) 1.083183259); [lra| |lra|lra].
    apply (exp_double (1.27847 / 32) 1.040760904); [lra| |lra|lra].
    pose proof (exp_taylor (1.27847 / 32)). lra. }
  pose proof (lambert_pos c (-1) E) as Hc. split; apply Rnot_le_lt; intros H.
  - assert (exp c <= exp 0.27846) by (destruct H as [H| ->]; [left; now apply exp_increasing|lra]).
    replace (exp (-1)) with (exp (- 1.27846) * exp 0.27846) in E by (rewrite <- exp_plus; f_equal; lra).
    pose proof (exp_pos c). nra.
  - assert (exp 0.27847 <= exp c) by (destruct H as [H| <-]; [left; now apply exp_increasing|lra]).
    replace (exp 0.27847) with (exp 1.27847 * exp (-1)) in H0 by (rewrite <- exp_plus; f_equal; lra).
    pose proof (exp_pos (-1)).
    assert (0.27847 * (3.591129 * exp (-1)) <= c * exp c) by (apply Rmult_le_compat; nra). lra.
Qed.
