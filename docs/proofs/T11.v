(* T11. Centring afterwards. *)
From Refrm Require Import Common.

(* Subtracting a number c i from both scores of each pair changes no pairwise probability. *)
(* begin: T11_probability *)
Theorem T11_probability (r_w r_l c : nat -> R) (i : nat) :
  sigmoid ((r_w i - c i) - (r_l i - c i)) = sigmoid (r_w i - r_l i).
(* end: T11_probability *)
Proof. f_equal. ring. Qed.

(* Subtracting one c from all scores leaves mean s^2 = Var s + (mean s - 2c)^2. Among constants the mean score, and only
   it, makes this smallest. *)
(* begin: T11_constant *)
Theorem T11_constant (N : nat) (r_w r_l : nat -> R) (c : R) :
  (0 < N)%nat ->
  let after := fun c => penalty N (fun i => r_w i - c) (fun i => r_l i - c) in
  let mean_score := mean N (fun i => (r_w i + r_l i) / 2) in
  let s := fun i => r_w i + r_l i in
  after c = variance N s + (mean N s - 2 * c) ^ 2 /\
  after mean_score <= after c /\ (after c = after mean_score -> c = mean_score).
(* end: T11_constant *)
Proof.
  intros HN after mu s.
  assert (E : forall c, after c = variance N s + (mean N s - 2 * c) ^ 2).
  { intros x. unfold after, penalty, variance. set (a := mean N s).
    rewrite (mean_ext N _ (fun i => (s i - a) ^ 2 + (2 * (a - 2 * x) * (s i - a) + (a - 2 * x) ^ 2)))
      by (intros; unfold s; ring).
    rewrite 2!mean_plus, mean_scal, mean_minus, 2!mean_const by easy. fold a. ring. }
  assert (Mu : mean N s = 2 * mu) by (unfold mu; rewrite <- mean_scal; apply mean_ext; intros; unfold s; field).
  rewrite 2!E, Mu. split; [easy|]. split; [pose proof (pow2_ge_0 (2 * mu - 2 * c)); lra|]. intros E'. nra.
Qed.

(* Among shifts of each pair by itself c_i = s_i / 2 minimises mean s^2: it makes it 0. *)
(* begin: T11_per_pair *)
Theorem T11_per_pair (N : nat) (r_w r_l : nat -> R) :
  (0 < N)%nat ->
  let after := fun c => penalty N (fun i => r_w i - c i) (fun i => r_l i - c i) in
  let half := fun i => (r_w i + r_l i) / 2 in
  after half = 0 /\
  (forall c, after half <= after c) /\
  (forall c, after c = 0 -> forall i, (i < N)%nat -> c i = half i).
(* end: T11_per_pair *)
Proof.
  intros HN after half.
  assert (Z : after half = 0) by (apply mean_0; intros; unfold half; field).
  split; [easy|split].
  - intros c. rewrite Z. apply mean_ge_0; [easy|]. intros. apply pow2_ge_0.
  - intros c E i Hi. unfold after, penalty in E.
    pose proof (mean_eq_0 N _ HN (fun i _ => pow2_ge_0 _) E i Hi) as Q. cbv beta in Q. unfold half. nra.
Qed.

(* Subtracting the mean score removes the mean of s, and leaves its spread as it was. *)
(* begin: T11_spread *)
Theorem T11_spread (N : nat) (r_w r_l : nat -> R) :
  (0 < N)%nat ->
  let mean_score := mean N (fun i => (r_w i + r_l i) / 2) in
  let s := fun i => r_w i + r_l i in
  let s' := fun i => (r_w i - mean_score) + (r_l i - mean_score) in
  mean N s' = 0 /\ variance N s' = variance N s.
(* end: T11_spread *)
Proof.
  intros HN mu s s'.
  assert (Mu : 2 * mu = mean N s) by (unfold mu; rewrite <- mean_scal; apply mean_ext; intros; unfold s; field).
  assert (Z : mean N s' = 0).
  { rewrite (mean_ext N s' (fun i => s i - 2 * mu)) by (intros; unfold s', s; ring).
    rewrite mean_minus, mean_const by easy. lra. }
  split; [easy|]. unfold variance. rewrite Z, <- Mu. apply mean_ext. intros. unfold s', s. f_equal. ring.
Qed.
