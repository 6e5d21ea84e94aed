(* T5. Dynamics of free scores. *)
From Refrm Require Import Common.

(* The scores are the parameters, and both lists follow minus the gradient of J from time 0 on. *)
(* begin: flow *)
Definition flow (N : nat) (lambda eps : R) (m : nat -> R) (r_w r_l : R -> nat -> R)
    : Prop :=
  let J := objective N lambda eps m in
  forall t i, 0 <= t -> (i < N)%nat ->
  is_derive (fun t => r_w t i) t (- partial (fun w => J w (r_l t)) i (r_w t)) /\
  is_derive (fun t => r_l t i) t (- partial (fun l => J (r_w t) l) i (r_l t)).
(* end: flow *)

(* The Wright omega function is the solution of omega + log omega = x. *)
(* begin: wright *)
Definition wright (omega : R -> R) : Prop :=
  forall x, 0 < omega x /\ omega x + ln (omega x) = x.
(* end: wright *)

Lemma flow_sum N lambda eps m r_w r_l t i : flow N lambda eps m r_w r_l -> 0 <= t -> (i < N)%nat ->
  is_derive (fun t => r_w t i + r_l t i) t (- 4 * lambda / INR N * (r_w t i + r_l t i)).
Proof.
  intros F Ht Hi. destruct (F t i Ht Hi) as [Hw Hl].
  apply (is_derive_eq _ _ _ _ (is_derive_Rplus _ _ _ _ _ Hw Hl)).
  rewrite partial_objective_w, partial_objective_l by easy. unfold Rdiv. ring.
Qed.

Lemma is_derive_difference (f g : R -> R) m t df dg :
  is_derive f t df -> is_derive g t dg -> is_derive (fun t => f t - g t - m) t (df - dg).
Proof. intros Hf Hg. derive. ring. Qed.

Lemma flow_margin N lambda eps m r_w r_l t i : flow N lambda eps m r_w r_l -> 0 <= t -> (i < N)%nat ->
  is_derive (fun t => r_w t i - r_l t i - m i) t (- 2 * slope eps (r_w t i - r_l t i - m i) / INR N).
Proof.
  intros F Ht Hi. destruct (F t i Ht Hi) as [Hw Hl].
  rewrite partial_objective_w in Hw by easy. rewrite partial_objective_l in Hl by easy.
  pose proof (is_derive_difference (fun t => r_w t i) (fun t => r_l t i) (m i) t _ _ Hw Hl) as D.
  apply (is_derive_eq _ _ _ _ D). unfold Rdiv. ring.
Qed.

(* a function without slope from 0 on stays at f 0 *)
Lemma constant_from (f : R -> R) : (forall t, 0 <= t -> is_derive f t 0) -> forall t, 0 <= t -> f t = f 0.
Proof.
  intros H t Ht.
  destruct (MVT_gen f 0 t (fun _ => 0)) as (x & _ & E).
  - intros x Hx. apply H. rewrite Rmin_left in Hx; lra.
  - intros x Hx. apply derivable_continuous_pt, ex_derive_Reals_0. exists 0. apply H. rewrite Rmin_left in Hx; lra.
  - lra.
Qed.

Lemma log_sum_increasing a b : a + exp a = b + exp b -> a = b.
Proof.
  intros E. destruct (Rtotal_order a b) as [H|[H|H]]; [|easy|]; apply exp_increasing in H as H'; lra.
Qed.

(* Every flow has s(t) = s(0) exp(-4 lambda t / N), whatever the margins and the smoothing: with lambda = 0, s stays. *)
(* begin: T5_sum *)
Theorem T5_sum (N : nat) (lambda eps : R) (m : nat -> R) (r_w r_l : R -> nat -> R) :
  flow N lambda eps m r_w r_l -> forall t i, 0 <= t -> (i < N)%nat ->
  r_w t i + r_l t i = (r_w 0 i + r_l 0 i) * exp (- 4 * lambda * t / INR N).
(* end: T5_sum *)
Proof.
  intros F t i Ht Hi. set (a := 4 * lambda / INR N).
  assert (C : forall t, 0 <= t -> is_derive (fun t => (r_w t i + r_l t i) * exp (a * t)) t 0).
  { intros y Hy. pose proof (flow_sum N lambda eps m r_w r_l y i F Hy Hi) as H.
    set (s := fun t => r_w t i + r_l t i) in *. change (is_derive (fun t => s t * exp (a * t)) y 0).
    change (is_derive s y (- 4 * lambda / INR N * s y)) in H. derive. unfold a, Rdiv. ring. }
  pose proof (constant_from _ C t Ht) as E. cbv beta in E.
  rewrite Rmult_0_r, exp_0, Rmult_1_r in E. rewrite <- E.
  replace (- 4 * lambda * t / INR N) with (- (a * t)) by (unfold a, Rdiv; ring).
  rewrite exp_Ropp. pose proof (exp_pos (a * t)). field. lra.
Qed.

(* Every flow without smoothing has z(t) = log omega(c) = c - omega(c), c = z(0) + exp z(0) + 2 t / N, whatever lambda
   is; z = d - m, so without margins this is d. *)
(* begin: T5_margin *)
Theorem T5_margin (N : nat) (lambda : R) (m : nat -> R) (r_w r_l : R -> nat -> R)
    (omega : R -> R) :
  wright omega -> flow N lambda 0 m r_w r_l -> forall t i, 0 <= t -> (i < N)%nat ->
  let z := fun t => r_w t i - r_l t i - m i in
  let c := z 0 + exp (z 0) + 2 * t / INR N in
  z t = ln (omega c) /\ z t = c - omega c.
(* end: T5_margin *)
Proof.
  intros Om F t i Ht Hi z c.
  assert (C : forall t, 0 <= t -> is_derive (fun t => z t + exp (z t) - 2 * t / INR N) t 0).
  { intros y Hy. pose proof (flow_margin N lambda 0 m r_w r_l y i F Hy Hi) as H.
    change (is_derive z y (- 2 * slope 0 (z y) / INR N)) in H.
    derive. rewrite slope_eq. unfold sigmoid. rewrite Ropp_involutive.
    pose proof (exp_pos (z y)). pose proof (pairs_pos N ltac:(lia)). field. lra. }
  pose proof (constant_from _ C t Ht) as E. cbv beta in E.
  destruct (Om c) as [P E'].
  assert (D : z t = ln (omega c)).
  { apply log_sum_increasing. rewrite exp_ln by easy. unfold c in E' at 3. unfold Rdiv in *. lra. }
  split; lra.
Qed.

(* There is an omega function, and only one. *)
(* begin: T5_omega *)
Theorem T5_omega :
  exists omega, wright omega /\
  forall omega', wright omega' -> forall x, omega' x = omega x.
(* end: T5_omega *)
Proof.
  assert (S : forall x, {u : R | u + exp u = x}).
  { intros x.
    assert (Hc : continuity (fun u => u + exp u - x)).
    { intros u. apply derivable_continuous_pt, ex_derive_Reals_0. auto_derive. easy. }
    pose proof (exp_ge x) as H1. pose proof (exp_pos x) as H2.
    pose proof (exp_ge (Rabs x)) as H3. pose proof (Rabs_pos x) as H4. pose proof (Rle_abs x) as H5.
    pose proof (exp_pos (Rabs x)) as H6.
    assert (H7 : exp (x - 1 - exp x) < exp x) by (apply exp_increasing; lra).
    destruct (IVT (fun u => u + exp u - x) (x - 1 - exp x) (Rabs x) Hc) as (u & _ & E); try lra.
    exists u. lra. }
  exists (fun x => exp (proj1_sig (S x))). split.
  - intros x. destruct (S x) as [u E]. simpl. rewrite ln_exp. split; [apply exp_pos|lra].
  - intros om Hom x. destruct (S x) as [u E]. simpl. destruct (Hom x) as [P E'].
    rewrite <- (exp_ln (om x)) by easy. f_equal. apply log_sum_increasing. rewrite exp_ln by easy. lra.
Qed.

(* the derivative of u = log omega is 1 / (1 + exp u) *)
Lemma is_derive_log_omega omega x : wright omega ->
  is_derive (fun x => ln (omega x)) x (sigmoid (- ln (omega x))).
Proof.
  intros Om.
  assert (U : forall x, ln (omega x) + exp (ln (omega x)) = x).
  { intros y. destruct (Om y). rewrite exp_ln by easy. lra. }
  set (u := fun x => ln (omega x)). change (forall x, u x + exp (u x) = x) in U.
  apply is_derive_Reals. intros e He. exists (mkposreal e He). intros h Hh Hhe. simpl in Hhe.
  destruct (mean_value (fun v => v + exp v) (fun v => 1 + exp v) (u x) (u (x + h))) as (v & Hv & E).
  { intros v. auto_derive; [easy|ring]. }
  rewrite 2!U in E. replace (x + h - x) with h in E by ring.
  pose proof (exp_pos v) as Hp.
  fold (u (x + h)) (u x). set (D := u (x + h) - u x) in *.
  assert (V : Rabs (v - u x) <= Rabs D).
  { unfold D, Rmin, Rmax in *. destruct (Rle_dec (u x) (u (x + h))); unfold Rabs; repeat destruct Rcase_abs; lra. }
  clearbody D.
  assert (Q : D / h = sigmoid (- v)).
  { unfold sigmoid. rewrite Ropp_involutive. assert (D <> 0) by (intros ->; lra). rewrite E. field. lra. }
  assert (HD : Rabs D <= Rabs h).
  { rewrite E, Rabs_mult, (Rabs_pos_eq (1 + exp v)) by lra. pose proof (Rabs_pos D). nra. }
  rewrite Q.
  destruct (mean_value sigmoid curvature (- u x) (- v) is_derive_sigmoid) as (y & _ & Ey).
  rewrite Ey, Rabs_mult. replace (- v - - u x) with (- (v - u x)) by ring. rewrite Rabs_Ropp.
  pose proof (curvature_pos y). pose proof (curvature_le y). rewrite (Rabs_pos_eq (curvature y)) by lra.
  pose proof (Rabs_pos (v - u x)). nra.
Qed.

(* Conversely the closed forms are a flow, from any scores at time 0. *)
(* begin: T5_solution *)
Theorem T5_solution (N : nat) (lambda : R) (m r_w0 r_l0 : nat -> R) (omega : R -> R) :
  wright omega ->
  let z0 := fun i => r_w0 i - r_l0 i - m i in
  let s := fun t i => (r_w0 i + r_l0 i) * exp (- 4 * lambda * t / INR N) in
  let d := fun t i => m i + ln (omega (z0 i + exp (z0 i) + 2 * t / INR N)) in
  let r_w := fun t i => (s t i + d t i) / 2 in
  let r_l := fun t i => (s t i - d t i) / 2 in
  flow N lambda 0 m r_w r_l /\ (forall i, r_w 0 i = r_w0 i /\ r_l 0 i = r_l0 i).
(* end: T5_solution *)
Proof.
  intros Om z0 s d r_w r_l. split.
  - intros t i Ht Hi. cbv zeta. rewrite partial_objective_w, partial_objective_l by easy.
    pose proof (pairs_pos N ltac:(lia)) as HN.
    assert (Hs : is_derive (fun t => s t i) t (- 4 * lambda / INR N * s t i)).
    { unfold s. auto_derive; [lra|]. unfold Rdiv. ring. }
    assert (Hd : is_derive (fun t => d t i) t (2 * sigmoid (- (d t i - m i)) / INR N)).
    { unfold d. set (c := z0 i + exp (z0 i)).
      pose proof (is_derive_log_omega omega (c + 2 * t / INR N) Om) as H.
      set (u := fun x => ln (omega x)) in *.
      change (is_derive (fun t => m i + u (c + 2 * t / INR N)) t
        (2 * sigmoid (- (m i + u (c + 2 * t / INR N) - m i)) / INR N)).
      replace (m i + u (c + 2 * t / INR N) - m i) with (u (c + 2 * t / INR N)) by ring.
      change (is_derive u (c + 2 * t / INR N) (sigmoid (- u (c + 2 * t / INR N)))) in H.
      derive. field. lra. }
    replace (r_w t i - r_l t i - m i) with (d t i - m i) by (unfold r_w, r_l; field).
    replace (r_w t i + r_l t i) with (s t i) by (unfold r_w, r_l; field).
    rewrite slope_eq. unfold r_w, r_l.
    set (si := fun t => s t i) in *. set (di := fun t => d t i) in *.
    change (s t i) with (si t) in *. change (d t i) with (di t) in *.
    split.
    + change (is_derive (fun t => (si t + di t) / 2) t
        (- ((0 - sigmoid (- (di t - m i)) + 2 * lambda * si t) / INR N))).
      derive. field. lra.
    + change (is_derive (fun t => (si t - di t) / 2) t
        (- ((- (0 - sigmoid (- (di t - m i))) + 2 * lambda * si t) / INR N))).
      derive. field. lra.
  - intros i. unfold r_w, r_l, s, d.
    replace (- 4 * lambda * 0 / INR N) with 0 by (unfold Rdiv; ring). rewrite exp_0.
    replace (2 * 0 / INR N) with 0 by (unfold Rdiv; ring). rewrite Rplus_0_r.
    destruct (Om (z0 i + exp (z0 i))) as [P E].
    assert (Z : ln (omega (z0 i + exp (z0 i))) = z0 i).
    { apply log_sum_increasing. rewrite exp_ln by easy. lra. }
    rewrite Z. unfold z0. split; field.
Qed.

(* So z grows like a logarithm: as soon as c >= 1, log(c - log c) <= log omega(c) <= log c. *)
(* begin: T5_growth *)
Theorem T5_growth (omega : R -> R) (c : R) :
  wright omega -> 1 <= c -> ln (c - ln c) <= ln (omega c) <= ln c.
(* end: T5_growth *)
Proof.
  intros Om Hc. destruct (Om c) as [P E].
  assert (Le : forall x y, 0 < x -> x <= y -> ln x <= ln y)
    by (intros x y Hx [H| ->]; [left; now apply ln_increasing|lra]).
  assert (H1 : 1 <= omega c).
  { apply Rnot_lt_le. intros H. pose proof (ln_increasing (omega c) 1 P H) as L. rewrite ln_1 in L. lra. }
  pose proof (Le 1 (omega c) ltac:(lra) H1) as L. rewrite ln_1 in L.
  assert (U : ln (omega c) <= ln c) by (apply Le; lra). split; [|easy].
  (* log c < c *)
  apply Le; [|lra]. pose proof (exp_ge (ln c)) as X. rewrite exp_ln in X by lra. lra.
Qed.

(* Gradient descent: each step of length eta multiplies every s by 1 - 4 eta lambda / N, and moves z by
   (2 eta / N) sigma(-z), whatever lambda is. *)
(* begin: T5_steps *)
Theorem T5_steps (N : nat) (lambda eps eta : R) (m : nat -> R)
    (r_w r_l : nat -> nat -> R) :
  let J := objective N lambda eps m in
  (forall k i, (i < N)%nat ->
    r_w (S k) i = r_w k i - eta * partial (fun w => J w (r_l k)) i (r_w k) /\
    r_l (S k) i = r_l k i - eta * partial (fun l => J (r_w k) l) i (r_l k)) ->
  forall k i, (i < N)%nat ->
  let z := fun k => r_w k i - r_l k i - m i in
  r_w k i + r_l k i
    = (1 - 4 * eta * lambda / INR N) ^ k * (r_w 0%nat i + r_l 0%nat i) /\
  (eps = 0 -> z (S k) = z k + 2 * eta / INR N * sigmoid (- z k)).
(* end: T5_steps *)
Proof.
  intros J H k i Hi z. split.
  - clear z. induction k as [|k IH]; [simpl; ring|].
    destruct (H k i Hi) as [-> ->]. unfold J. rewrite partial_objective_w, partial_objective_l by easy.
    rewrite <- tech_pow_Rmult, (Rmult_assoc (1 - _)), <- IH. unfold Rdiv. ring.
  - intros ->. unfold z. destruct (H k i Hi) as [-> ->]. unfold J.
    rewrite partial_objective_w, partial_objective_l, slope_eq by easy. unfold Rdiv. ring.
Qed.

(* This is a contraction exactly for 0 < eta < N / (2 lambda). *)
(* begin: T5_contraction *)
Theorem T5_contraction (N : nat) (lambda eta : R) :
  (0 < N)%nat -> 0 < lambda ->
  Rabs (1 - 4 * eta * lambda / INR N) < 1 <-> 0 < eta < INR N / (2 * lambda).
(* end: T5_contraction *)
Proof.
  intros HN Hl. apply pairs_pos in HN. set (a := eta * lambda / INR N).
  replace (4 * eta * lambda / INR N) with (4 * a) by (unfold a; field; lra).
  assert (E : eta = a * (INR N / lambda)) by (unfold a; field; lra).
  assert (P : 0 < INR N / lambda) by (apply Rdiv_lt_0_compat; lra).
  replace (INR N / (2 * lambda)) with (1 / 2 * (INR N / lambda)) by (field; lra).
  rewrite E. split.
  - intros H. apply Rabs_def2 in H. split; [|apply Rmult_lt_compat_r]; nra.
  - intros [H1 H2]. apply Rmult_lt_reg_r in H2; [|easy]. apply Rabs_def1; nra.
Qed.
