(* T11. Centring afterwards. *)
From Refrm Require Import Common.

(* Subtracting a number c i from both scores of each pair changes no pairwise probability. *)
(* begin: T11_probability *)
Theorem T11_probability (r_w r_l c : nat -> R) (i : nat) :
  sigmoid ((r_w i - c i) - (r_l i - c i)) = sigmoid (r_w i - r_l i).
(* end: T11_probability *)
Proof. f_equal. ring. Qed.

(* Among constants the mean score, and only it, minimises mean s^2. *)
(* begin: T11_constant *)
Theorem T11_constant (N : nat) (r_w r_l : nat -> R) (c : R) :
  (0 < N)%nat ->
  let after := fun c => penalty N (fun i => r_w i - c) (fun i => r_l i - c) in
  let mean_score := mean N (fun i => (r_w i + r_l i) / 2) in
  after mean_score <= after c /\ (after c = after mean_score -> c = mean_score).
(* end: T11_constant *)
Proof.
  intros HN after mu.
  assert (E : after c = after mu + 4 * (c - mu) ^ 2).
  { assert (V : forall c, after c = mean N (fun i => (r_w i + r_l i) ^ 2) - 8 * c * mu + 4 * c ^ 2).
    { intros x. unfold after, penalty, mu. rewrite <- mean_scal, <- mean_minus.
      rewrite <- (mean_const N (4 * x ^ 2) HN), <- mean_plus. apply mean_ext. intros. field. }
    rewrite 2!V. ring. }
  rewrite E. pose proof (pow2_ge_0 (c - mu)). split; [lra|]. intros E'.
  assert ((c - mu) ^ 2 = 0) by lra. nra.
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
