(* T14. Smoothed labels bound the margin. *)
From Refrm Require Import Common.

Lemma sigmoid_logit eps : 0 < eps < 1 -> sigmoid (- ln ((1 - eps) / eps)) = eps.
Proof.
  intros H. unfold sigmoid. rewrite Ropp_involutive, exp_ln by (apply Rdiv_lt_0_compat; lra). field. lra.
Qed.

(* Any function whose derivative increases and is 0 at a has its one minimum there. *)
Lemma minimum (f df : R -> R) a :
  (forall x, is_derive f x (df x)) -> (forall x y, x < y -> df x < df y) -> df a = 0 ->
  forall x, x <> a -> f a < f x.
Proof.
  intros H I Z x Hx. destruct (Rtotal_order x a) as [L|[L|L]]; [|easy|].
  - set (c := (x + a) / 2).
    destruct (mean_value f df x c H) as (y & Hy & E). rewrite Rmin_left, Rmax_right in Hy by (unfold c; lra).
    destruct (mean_value f df c a H) as (y' & Hy' & E'). rewrite Rmin_left, Rmax_right in Hy' by (unfold c; lra).
    assert (df y < 0) by (rewrite <- Z; apply I; unfold c in Hy; lra).
    assert (df y' <= 0) by (rewrite <- Z; destruct (Req_dec y' a) as [->|]; [lra|left; apply I; lra]).
    unfold c in *. nra.
  - set (c := (x + a) / 2).
    destruct (mean_value f df a c H) as (y & Hy & E). rewrite Rmin_left, Rmax_right in Hy by (unfold c; lra).
    destruct (mean_value f df c x H) as (y' & Hy' & E'). rewrite Rmin_left, Rmax_right in Hy' by (unfold c; lra).
    assert (0 < df y') by (rewrite <- Z; apply I; unfold c in Hy'; lra).
    assert (0 <= df y) by (rewrite <- Z; destruct (Req_dec y a) as [->|]; [lra|left; apply I; lra]).
    unfold c in *. nra.
Qed.

(* With 0 < eps < 1 the loss of a pair is smallest at the finite z = log((1 - eps)/eps), and only there. (With eps <
   1/2, as in refrm, it is positive.) *)
(* begin: T14_pair *)
Theorem T14_pair (eps z : R) :
  0 < eps < 1 -> z <> ln ((1 - eps) / eps) ->
  pair_loss eps (ln ((1 - eps) / eps)) < pair_loss eps z.
(* end: T14_pair *)
Proof.
  intros He. apply (minimum (pair_loss eps) (slope eps)); [apply is_derive_pair_loss|apply slope_increasing|].
  rewrite slope_eq, sigmoid_logit by easy. ring.
Qed.

(* There sigma(z) = 1 - eps, and the loss is the entropy of the label. *)
(* begin: T14_entropy *)
Theorem T14_entropy (eps : R) :
  0 < eps < 1 ->
  let z := ln ((1 - eps) / eps) in
  sigmoid z = 1 - eps /\ pair_loss eps z = - (1 - eps) * ln (1 - eps) - eps * ln eps /\
  (eps < 1 / 2 -> 0 < z).
(* end: T14_entropy *)
Proof.
  intros H z. pose proof (sigmoid_logit eps H) as S. fold z in S. rewrite sigmoid_opp in S.
  split; [lra|split].
  - unfold pair_loss, softplus. rewrite exp_Ropp. unfold z. rewrite exp_ln by (apply Rdiv_lt_0_compat; lra).
    replace (1 + / ((1 - eps) / eps)) with (/ (1 - eps)) by (field; lra).
    replace (1 + (1 - eps) / eps) with (/ eps) by (field; lra). rewrite 2!ln_Rinv by lra. ring.
  - intros E. unfold z. rewrite <- ln_1. apply ln_increasing; [lra|].
    apply (Rmult_lt_reg_r eps); [lra|]. replace ((1 - eps) / eps * eps) with (1 - eps) by (field; lra). lra.
Qed.

(* The loss of a pair is at least eps |z|. So wherever J <= J0 the margins are bounded: mean |d - m| <= J0 / eps, and
   each |d_i - m_i| <= N J0 / eps. *)
(* begin: T14_bounded *)
Theorem T14_bounded (N : nat) (lambda eps J0 : R) (m r_w r_l : nat -> R) :
  (0 < N)%nat -> 0 <= lambda -> 0 < eps <= 1 / 2 ->
  (forall z, eps * Rabs z <= pair_loss eps z) /\
  (objective N lambda eps m r_w r_l <= J0 ->
    mean N (fun i => Rabs (r_w i - r_l i - m i)) <= J0 / eps /\
    forall i, (i < N)%nat -> Rabs (r_w i - r_l i - m i) <= INR N * J0 / eps).
(* end: T14_bounded *)
Proof.
  intros HN Hl He.
  assert (G : forall x, x <= softplus x).
  { intros x. unfold softplus. rewrite <- (ln_exp x) at 1. pose proof (exp_pos x). left. apply ln_increasing; lra. }
  assert (P : forall z, eps * Rabs z <= pair_loss eps z).
  { intros z. unfold pair_loss, Rabs. pose proof (G z). pose proof (G (- z)).
    pose proof (softplus_pos z). pose proof (softplus_pos (- z)). destruct (Rcase_abs z); nra. }
  split; [easy|]. intros H. pose proof (pairs_pos N HN) as Np.
  assert (Q : 0 <= penalty N r_w r_l) by (apply mean_ge_0; [easy|intros; apply pow2_ge_0]).
  assert (B : eps * mean N (fun i => Rabs (r_w i - r_l i - m i)) <= J0).
  { apply Rle_trans with (loss N eps m r_w r_l); [|unfold objective in H; nra].
    rewrite <- mean_scal. apply mean_le; [easy|]. intros i _. apply P. }
  assert (M : mean N (fun i => Rabs (r_w i - r_l i - m i)) <= J0 / eps).
  { apply (Rmult_le_reg_l eps); [lra|]. replace (eps * (J0 / eps)) with J0 by (field; lra). easy. }
  split; [easy|]. intros i Hi.
  apply Rle_trans with (1 := sum_term N (fun i => Rabs (r_w i - r_l i - m i)) i (fun j _ => Rabs_pos _) Hi).
  apply (Rmult_le_compat_l (INR N)) in M; [|lra]. unfold mean in M.
  replace (INR N * (sum N (fun i => Rabs (r_w i - r_l i - m i)) / INR N))
    with (sum N (fun i => Rabs (r_w i - r_l i - m i))) in M by (field; lra). unfold Rdiv in *. lra.
Qed.

(* So the minimisers of J on free scores are d_i = m_i + log((1 - eps)/eps), s_i = 0: the margins are bounded, and
   lambda > 0 has no part in it. *)
(* begin: T14_minimiser *)
Theorem T14_minimiser (N : nat) (lambda eps : R) (m r_w r_l : nat -> R) :
  (0 < N)%nat -> 0 < eps < 1 -> 0 < lambda ->
  (forall r_w' r_l',
    objective N lambda eps m r_w r_l <= objective N lambda eps m r_w' r_l') <->
  (forall i, (i < N)%nat ->
    r_w i - r_l i = m i + ln ((1 - eps) / eps) /\ r_w i + r_l i = 0).
(* end: T14_minimiser *)
Proof.
  intros HN He Hl. set (a := ln ((1 - eps) / eps)).
  assert (P : forall z, pair_loss eps a <= pair_loss eps z).
  { intros z. destruct (Req_dec z a) as [->|]; [lra|]. left. now apply T14_pair. }
  assert (Low : forall w l, pair_loss eps a <= objective N lambda eps m w l).
  { intros w l. unfold objective.
    assert (0 <= penalty N w l) by (apply mean_ge_0; [easy|intros; apply pow2_ge_0]).
    assert (pair_loss eps a <= loss N eps m w l)
      by (rewrite <- (mean_const N (pair_loss eps a)) by easy; apply mean_le; [easy|intros; apply P]).
    nra. }
  assert (At : forall w l, (forall i, (i < N)%nat -> w i - l i = m i + a /\ w i + l i = 0) ->
    objective N lambda eps m w l = pair_loss eps a).
  { intros w l H. unfold objective, loss, penalty.
    rewrite (mean_ext N (fun i => pair_loss _ _) (fun _ => pair_loss eps a))
      by (intros i Hi; f_equal; destruct (H i Hi); lra).
    rewrite (mean_0 N (fun i => (w i + l i) ^ 2)), mean_const
      by (try easy; intros i Hi; destruct (H i Hi) as [_ ->]; ring).
    ring. }
  split.
  - intros H.
    specialize (H (fun i => (m i + a) / 2) (fun i => - (m i + a) / 2)).
    rewrite (At (fun i => (m i + a) / 2) (fun i => - (m i + a) / 2)) in H by (intros; split; field).
    assert (L : pair_loss eps a <= loss N eps m r_w r_l)
      by (rewrite <- (mean_const N (pair_loss eps a)) by easy; apply mean_le; [easy|intros; apply P]).
    assert (Q : 0 <= penalty N r_w r_l) by (apply mean_ge_0; [easy|intros; apply pow2_ge_0]).
    unfold objective in H.
    assert (Q0 : penalty N r_w r_l = 0) by nra.
    assert (L0 : mean N (fun i => pair_loss eps (r_w i - r_l i - m i) - pair_loss eps a) = 0)
      by (rewrite mean_minus, mean_const by easy; fold (loss N eps m r_w r_l); nra).
    intros i Hi. split.
    + assert (E : pair_loss eps (r_w i - r_l i - m i) - pair_loss eps a = 0)
        by (apply (mean_eq_0 N (fun i => pair_loss eps (r_w i - r_l i - m i) - pair_loss eps a)); try easy;
            intros j _; pose proof (P (r_w j - r_l j - m j)); lra).
      destruct (Req_dec (r_w i - r_l i - m i) a); [lra|].
      pose proof (T14_pair eps (r_w i - r_l i - m i) He H0) as T. fold a in T. lra.
    + pose proof (mean_eq_0 N _ HN (fun i _ => pow2_ge_0 _) Q0 i Hi) as E. cbv beta in E. nra.
  - intros H w l. rewrite At by easy. apply Low.
Qed.

(* Without smoothing there is no such margin: the loss of a pair falls for ever. *)
(* begin: T14_without *)
Theorem T14_without (z z' : R) : z < z' -> pair_loss 0 z' < pair_loss 0 z.
(* end: T14_without *)
Proof. apply pair_loss_decreasing. Qed.
