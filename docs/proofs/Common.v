(* What every file shares: the loss and the penalty as refrm defines them, over the real numbers.

   How to read this file. `nat -> R` is a list of real numbers x 0, x 1, ...; of N pairs the indices are i < N.
   `fun i => e` is the list whose entry i is e. `r_w i` is the score of the chosen, `r_l i` of the rejected response of
   pair i; `m i` is its margin, `eps` the label smoothing, `lambda` the weight of the squared sum. *)

From Coq Require Export Reals Lra Lia Arith.
From Coquelicot Require Export Coquelicot.
Open Scope R_scope.

(* tactics need not look inside the definition of a derivative *)
Global Opaque filterdiff.

(* ---- Definitions ---- *)

(* begin: definitions *)
(* x 0 + x 1 + ... + x (N - 1), and its N-th part *)
Fixpoint sum (N : nat) (x : nat -> R) : R :=
  match N with
  | O => 0
  | S n => sum n x + x n
  end.

Definition mean (N : nat) (x : nat -> R) : R := sum N x / INR N.

Definition sigmoid (x : R) : R := 1 / (1 + exp (- x)).

Definition softplus (x : R) : R := ln (1 + exp x).

(* the loss of one pair at z = d - m, and its derivative *)
Definition pair_loss (eps z : R) : R := (1 - eps) * softplus (- z) + eps * softplus z.

Definition slope (eps z : R) : R := - ((1 - eps) * sigmoid (- z) - eps * sigmoid z).

(* its second derivative, whatever eps is *)
Definition curvature (z : R) : R := sigmoid z * sigmoid (- z).

(* L, P and J = L + lambda P, means over N pairs *)
Definition loss (N : nat) (eps : R) (m r_w r_l : nat -> R) : R :=
  mean N (fun i => pair_loss eps (r_w i - r_l i - m i)).

Definition penalty (N : nat) (r_w r_l : nat -> R) : R :=
  mean N (fun i => (r_w i + r_l i) ^ 2).

Definition objective (N : nat) (lambda eps : R) (m r_w r_l : nat -> R) : R :=
  loss N eps m r_w r_l + lambda * penalty N r_w r_l.

Definition variance (N : nat) (x : nat -> R) : R :=
  mean N (fun i => (x i - mean N x) ^ 2).

Definition no_margin : nat -> R := fun _ => 0.

(* the list r with entry i replaced by x *)
Definition put (r : nat -> R) (i : nat) (x : R) : nat -> R :=
  fun j => if Nat.eqb j i then x else r j.

(* the partial derivative of F in entry i, at r *)
Definition partial (F : (nat -> R) -> R) (i : nat) (r : nat -> R) : R :=
  Derive (fun x => F (put r i x)) (r i).

(* the score of features x under p weights theta *)
Definition score (p : nat) (theta x : nat -> R) : R := sum p (fun k => theta k * x k).

(* J of a model whose scores are linear in its p weights; `x_w i` are the features of the
   chosen, `x_l i` those of the rejected response of pair i *)
Definition linear (N : nat) (lambda eps : R) (m : nat -> R) (p : nat)
    (x_w x_l : nat -> nat -> R) (theta : nat -> R) :=
  objective N lambda eps m (fun i => score p theta (x_w i))
    (fun i => score p theta (x_l i)).
(* end: definitions *)

(* ---- Finite sums ---- *)

Lemma sum_ext N x y : (forall i, (i < N)%nat -> x i = y i) -> sum N x = sum N y.
Proof.
  induction N as [|N IH]; intros H; simpl; [easy|].
  rewrite IH by (intros; apply H; lia). now rewrite H by lia.
Qed.

Lemma sum_plus N x y : sum N (fun i => x i + y i) = sum N x + sum N y.
Proof. induction N as [|N IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma sum_minus N x y : sum N (fun i => x i - y i) = sum N x - sum N y.
Proof. induction N as [|N IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma sum_opp N x : sum N (fun i => - x i) = - sum N x.
Proof. induction N as [|N IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma sum_scal N a x : sum N (fun i => a * x i) = a * sum N x.
Proof. induction N as [|N IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma sum_scal_r N a x : sum N (fun i => x i * a) = sum N x * a.
Proof. induction N as [|N IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma sum_const N a : sum N (fun _ => a) = INR N * a.
Proof. induction N as [|N IH]; simpl sum; [simpl; ring|]. rewrite IH, S_INR. ring. Qed.

Lemma sum_0 N x : (forall i, (i < N)%nat -> x i = 0) -> sum N x = 0.
Proof. intros H. rewrite (sum_ext N x (fun _ => 0) H), sum_const. ring. Qed.

Lemma sum_le N x y : (forall i, (i < N)%nat -> x i <= y i) -> sum N x <= sum N y.
Proof.
  induction N as [|N IH]; intros H; simpl; [lra|].
  apply Rplus_le_compat; [apply IH; intros; apply H|apply H]; lia.
Qed.

Lemma sum_ge_0 N x : (forall i, (i < N)%nat -> 0 <= x i) -> 0 <= sum N x.
Proof. intros H. rewrite <- (sum_0 N (fun _ => 0)) by easy. now apply sum_le. Qed.

(* one entry may be less *)
Lemma sum_lt N x y i :
  (forall j, (j < N)%nat -> x j <= y j) -> (i < N)%nat -> x i < y i -> sum N x < sum N y.
Proof.
  induction N as [|N IH]; intros H Hi Hlt; simpl; [lia|].
  destruct (Nat.eq_dec i N) as [->|].
  - apply Rplus_le_lt_compat; [apply sum_le; intros; apply H; lia|easy].
  - apply Rplus_lt_le_compat; [apply IH; try easy; [intros; apply H|]; lia|apply H; lia].
Qed.

Lemma sum_eq_0 N x :
  (forall i, (i < N)%nat -> 0 <= x i) -> sum N x = 0 -> forall i, (i < N)%nat -> x i = 0.
Proof.
  intros H H0 i Hi. destruct (Rle_lt_or_eq_dec 0 (x i) (H i Hi)) as [Hp|]; [|easy].
  pose proof (sum_lt N (fun _ => 0) x i H Hi Hp) as Hs.
  rewrite (sum_0 N (fun _ => 0)) in Hs by easy. lra.
Qed.

Lemma sum_term N x i : (forall j, (j < N)%nat -> 0 <= x j) -> (i < N)%nat -> x i <= sum N x.
Proof.
  intros H Hi. destruct (Rle_lt_dec (x i) (sum N x)) as [|Hc]; [easy|exfalso].
  induction N as [|N IH]; [lia|]. simpl in Hc.
  pose proof (sum_ge_0 N x (fun j Hj => H j (Nat.lt_lt_succ_r _ _ Hj))) as Hs.
  destruct (Nat.eq_dec i N) as [->|]; [lra|].
  apply IH; [intros; apply H; lia|lia|]. pose proof (H N (Nat.lt_succ_diag_r N)). lra.
Qed.

Lemma sum_swap N p (a : nat -> nat -> R) :
  sum N (fun i => sum p (fun k => a i k)) = sum p (fun k => sum N (fun i => a i k)).
Proof.
  induction N as [|N IH]; simpl; [now rewrite sum_0|]. rewrite IH. now rewrite <- sum_plus.
Qed.

Lemma sum_put N (f : nat -> R -> R) r i x :
  (i < N)%nat -> sum N (fun j => f j (put r i x j)) = sum N (fun j => f j (r j)) - f i (r i) + f i x.
Proof.
  unfold put. induction N as [|N IH]; intros Hi; [lia|]. simpl.
  destruct (Nat.eq_dec i N) as [->|].
  - rewrite Nat.eqb_refl, (sum_ext N _ (fun j => f j (r j))); [ring|].
    intros j Hj. now rewrite (proj2 (Nat.eqb_neq j N)) by lia.
  - rewrite IH, (proj2 (Nat.eqb_neq N i)) by lia. ring.
Qed.

(* a sum of which only entry i counts *)
Lemma sum_pick N i a : (i < N)%nat -> sum N (fun j => if Nat.eqb j i then a j else 0) = a i.
Proof.
  intros Hi. transitivity (sum N (put (fun _ => 0) i (a i))).
  - apply sum_ext. intros j _. unfold put. destruct (Nat.eqb_spec j i); congruence.
  - etransitivity; [apply (sum_put N (fun _ x => x) (fun _ => 0) i (a i) Hi)|]. rewrite sum_const. ring.
Qed.

(* ---- Means ---- *)

Lemma pairs_pos N : (0 < N)%nat -> 0 < INR N.
Proof. apply lt_0_INR. Qed.

Lemma mean_ext N x y : (forall i, (i < N)%nat -> x i = y i) -> mean N x = mean N y.
Proof. intros H. unfold mean. now rewrite (sum_ext N x y H). Qed.

Lemma mean_plus N x y : mean N (fun i => x i + y i) = mean N x + mean N y.
Proof. unfold mean. rewrite sum_plus. unfold Rdiv. ring. Qed.

Lemma mean_minus N x y : mean N (fun i => x i - y i) = mean N x - mean N y.
Proof. unfold mean. rewrite sum_minus. unfold Rdiv. ring. Qed.

Lemma mean_opp N x : mean N (fun i => - x i) = - mean N x.
Proof. unfold mean. rewrite sum_opp. unfold Rdiv. ring. Qed.

Lemma mean_scal N a x : mean N (fun i => a * x i) = a * mean N x.
Proof. unfold mean. rewrite sum_scal. unfold Rdiv. ring. Qed.

Lemma mean_const N a : (0 < N)%nat -> mean N (fun _ => a) = a.
Proof. intros HN. unfold mean. rewrite sum_const. field. apply Rgt_not_eq, (pairs_pos N HN). Qed.

Lemma mean_0 N x : (forall i, (i < N)%nat -> x i = 0) -> mean N x = 0.
Proof. intros H. unfold mean. rewrite sum_0 by easy. unfold Rdiv. ring. Qed.

Lemma mean_le N x y :
  (0 < N)%nat -> (forall i, (i < N)%nat -> x i <= y i) -> mean N x <= mean N y.
Proof.
  intros HN H. apply Rmult_le_compat_r; [|now apply sum_le].
  apply Rlt_le, Rinv_0_lt_compat, (pairs_pos N HN).
Qed.

Lemma mean_ge_0 N x : (0 < N)%nat -> (forall i, (i < N)%nat -> 0 <= x i) -> 0 <= mean N x.
Proof. intros HN H. rewrite <- (mean_const N 0 HN). now apply mean_le. Qed.

Lemma mean_lt N x y i :
  (forall j, (j < N)%nat -> x j <= y j) -> (i < N)%nat -> x i < y i -> mean N x < mean N y.
Proof.
  intros H Hi Hlt. apply Rmult_lt_compat_r; [|now apply sum_lt with i].
  apply Rinv_0_lt_compat, pairs_pos. lia.
Qed.

Lemma mean_eq_0 N x :
  (0 < N)%nat -> (forall i, (i < N)%nat -> 0 <= x i) -> mean N x = 0 -> forall i, (i < N)%nat -> x i = 0.
Proof.
  intros HN H H0. apply sum_eq_0; [easy|]. unfold mean in H0.
  apply Rmult_integral in H0. destruct H0 as [|H0]; [easy|].
  exfalso. revert H0. apply Rinv_neq_0_compat, Rgt_not_eq, (pairs_pos N HN).
Qed.

(* (mean x)^2 <= mean x^2 *)
Lemma mean_square N x : (0 < N)%nat -> (mean N x) ^ 2 <= mean N (fun i => (x i) ^ 2).
Proof.
  intros HN. assert (H : 0 <= mean N (fun i => (x i - mean N x) ^ 2))
    by (apply mean_ge_0; [easy|intros; apply pow2_ge_0]).
  rewrite (mean_ext N _ (fun i => (x i) ^ 2 - (2 * mean N x) * x i + (mean N x) ^ 2)) in H by (intros; ring).
  rewrite mean_plus, mean_minus, mean_scal, mean_const in H by easy. lra.
Qed.

(* ---- Scores ---- *)

Lemma score_plus p theta v t x : score p (fun k => theta k + t * v k) x = score p theta x + t * score p v x.
Proof.
  unfold score. rewrite <- sum_scal, <- sum_plus. apply sum_ext. intros. ring.
Qed.

(* ---- The sigmoid ---- *)

Lemma sigmoid_pos x : 0 < sigmoid x.
Proof. unfold sigmoid. apply Rdiv_lt_0_compat; [lra|]. pose proof (exp_pos (- x)). lra. Qed.

Lemma sigmoid_opp x : sigmoid (- x) = 1 - sigmoid x.
Proof.
  unfold sigmoid. rewrite Ropp_involutive, exp_Ropp. pose proof (exp_pos x). field. lra.
Qed.

Lemma sigmoid_lt_1 x : sigmoid x < 1.
Proof. pose proof (sigmoid_pos (- x)). rewrite sigmoid_opp in H. lra. Qed.

Lemma sigmoid_0 : sigmoid 0 = 1 / 2.
Proof. unfold sigmoid. rewrite Ropp_0, exp_0. field. Qed.

Lemma sigmoid_increasing x y : x < y -> sigmoid x < sigmoid y.
Proof.
  intros H. unfold sigmoid, Rdiv. rewrite 2!Rmult_1_l. pose proof (exp_pos (- x)). pose proof (exp_pos (- y)).
  apply Rinv_lt_contravar; [apply Rmult_lt_0_compat; lra|].
  apply Rplus_lt_compat_l, exp_increasing. lra.
Qed.

Lemma curvature_pos z : 0 < curvature z.
Proof. apply Rmult_lt_0_compat; apply sigmoid_pos. Qed.

Lemma curvature_le z : curvature z <= 1 / 4.
Proof.
  unfold curvature. rewrite sigmoid_opp. pose proof (pow2_ge_0 (sigmoid z - 1 / 2)). nra.
Qed.

(* the slope in one term *)
Lemma slope_eq eps z : slope eps z = eps - sigmoid (- z).
Proof. unfold slope. rewrite sigmoid_opp. ring. Qed.

Lemma slope_increasing eps x y : x < y -> slope eps x < slope eps y.
Proof. intros H. rewrite 2!slope_eq, 2!sigmoid_opp. pose proof (sigmoid_increasing x y H). lra. Qed.

Lemma softplus_pos x : 0 < softplus x.
Proof. unfold softplus. rewrite <- ln_1. apply ln_increasing; pose proof (exp_pos x); lra. Qed.

Lemma softplus_increasing x y : x < y -> softplus x < softplus y.
Proof.
  intros H. unfold softplus. pose proof (exp_pos x). pose proof (exp_increasing x y H).
  apply ln_increasing; lra.
Qed.

Lemma pair_loss_pos eps z : 0 <= eps <= 1 -> 0 < pair_loss eps z.
Proof.
  intros H. unfold pair_loss. pose proof (softplus_pos z). pose proof (softplus_pos (- z)). nra.
Qed.

(* without smoothing it is softplus (- z) *)
Lemma pair_loss_0 z : pair_loss 0 z = softplus (- z).
Proof. unfold pair_loss. ring. Qed.

Lemma pair_loss_decreasing x y : x < y -> pair_loss 0 y < pair_loss 0 x.
Proof. intros H. rewrite 2!pair_loss_0. apply softplus_increasing. lra. Qed.

(* ---- Derivatives ---- *)

(* the derivative has a value that is equal to the one that was found *)
Lemma is_derive_eq (f : R -> R) (x a b : R) : is_derive f x a -> a = b -> is_derive f x b.
Proof. now intros H <-. Qed.

(* there is one derivative only *)
Lemma is_derive_same (f : R -> R) (x a b : R) : is_derive f x a -> is_derive f x b -> a = b.
Proof. intros Ha Hb. rewrite <- (is_derive_unique f x a Ha). now apply is_derive_unique. Qed.

(* Coquelicot's rules, in the words of the real numbers *)
Lemma is_derive_Rplus (f g : R -> R) x a b :
  is_derive f x a -> is_derive g x b -> is_derive (fun y => f y + g y) x (a + b).
Proof. apply (is_derive_plus f g x a b). Qed.

Lemma is_derive_Rext (f g : R -> R) (x a : R) :
  (forall y, f y = g y :> R) -> is_derive f x a -> is_derive g x a.
Proof. exact (is_derive_ext f g x a). Qed.

Lemma is_derive_Rscal (f : R -> R) x k a : is_derive f x a -> is_derive (fun y => k * f y) x (k * a).
Proof. apply (is_derive_scal f x k a). Qed.

(* differentiate what is composed of functions whose derivatives are among the hypotheses *)
Ltac derive :=
  auto_derive;
  [ repeat split; auto; eexists; eassumption
  | repeat match goal with
    | H : is_derive _ _ ?l |- context [Derive ?g ?y] =>
        replace (Derive g y) with l by (symmetry; apply is_derive_unique; exact H)
    end ].

Lemma is_derive_softplus x : is_derive softplus x (sigmoid x).
Proof.
  unfold softplus, sigmoid. pose proof (exp_pos x). auto_derive; [lra|]. rewrite exp_Ropp. field. lra.
Qed.

Lemma is_derive_sigmoid x : is_derive sigmoid x (curvature x).
Proof.
  unfold curvature, sigmoid. rewrite Ropp_involutive. pose proof (exp_pos (- x)).
  auto_derive; [lra|]. replace (exp x) with (/ exp (- x)) by (rewrite <- exp_Ropp; f_equal; ring). field. lra.
Qed.

Lemma is_derive_pair_loss eps z : is_derive (pair_loss eps) z (slope eps z).
Proof.
  unfold pair_loss. pose proof (is_derive_softplus z). pose proof (is_derive_softplus (- z)).
  derive. unfold slope. ring.
Qed.

Lemma is_derive_slope eps z : is_derive (slope eps) z (curvature z).
Proof.
  apply (is_derive_Rext (fun y => eps - 1 + sigmoid y)).
  { intros y. rewrite slope_eq, sigmoid_opp. simpl. ring. }
  pose proof (is_derive_sigmoid z).
  derive. ring.
Qed.

Lemma is_derive_sum N (f : nat -> R -> R) t df :
  (forall i, (i < N)%nat -> is_derive (f i) t (df i)) ->
  is_derive (fun y => sum N (fun i => f i y)) t (sum N df).
Proof.
  induction N as [|N IH]; intros H; simpl; [apply @is_derive_const|].
  apply (is_derive_plus (fun y => sum N (fun i => f i y)) (f N));
    [apply IH; intros; apply H; lia|apply H; lia].
Qed.

Lemma is_derive_mean N (f : nat -> R -> R) t df :
  (forall i, (i < N)%nat -> is_derive (f i) t (df i)) ->
  is_derive (fun y => mean N (fun i => f i y)) t (mean N df).
Proof.
  intros H. apply (is_derive_Rext (fun y => / INR N * sum N (fun i => f i y))).
  { intros y. apply Rmult_comm. }
  eapply is_derive_eq; [apply is_derive_Rscal, is_derive_sum, H|apply Rmult_comm].
Qed.

Lemma is_derive_put r i j x : is_derive (fun y => put r i y j) x (if Nat.eqb j i then 1 else 0).
Proof. unfold put. destruct (Nat.eqb j i); auto_derive; easy. Qed.

Lemma put_at r i x : put r i x i = x.
Proof. unfold put. now rewrite Nat.eqb_refl. Qed.

Lemma put_other r i j x : j <> i -> put r i x j = r j.
Proof. intros H. unfold put. now destruct (Nat.eqb_spec j i). Qed.

Lemma put_same r i j : put r i (r i) j = r j.
Proof. unfold put. destruct (Nat.eqb_spec j i); congruence. Qed.

Lemma is_derive_score p (dtheta : nat -> R) (path : R -> nat -> R) t x :
  (forall k, (k < p)%nat -> is_derive (fun y => path y k) t (dtheta k)) ->
  is_derive (fun y => score p (path y) x) t (score p dtheta x).
Proof.
  intros H. apply (is_derive_sum p (fun k y => path y k * x k)). intros k Hk.
  apply (is_derive_Rext (fun y => x k * path y k)); [intros; apply Rmult_comm|].
  eapply is_derive_eq; [apply is_derive_Rscal, H, Hk|apply Rmult_comm].
Qed.

(* a weight enters the score with its feature *)
Lemma is_derive_weight p theta k x y :
  (k < p)%nat -> is_derive (fun t => score p (put theta k t) x) y (x k).
Proof.
  intros Hk. eapply is_derive_eq.
  - apply (is_derive_score p (fun j => if Nat.eqb j k then 1 else 0)). intros. apply is_derive_put.
  - unfold score. rewrite <- (sum_pick p k x Hk). apply sum_ext.
    intros j _. destruct (Nat.eqb j k); ring.
Qed.

(* The chain rule, of which every gradient here is an instance. A path of the scores is a list for each moment;
   at moment t its entries have the derivatives dr. *)
Definition moves (N : nat) (r : R -> nat -> R) (t : R) (dr : nat -> R) : Prop :=
  forall i, (i < N)%nat -> is_derive (fun y => r y i) t (dr i).

Lemma moves_put N r i x : moves N (put r i) x (fun j => if Nat.eqb j i then 1 else 0).
Proof. intros j _. apply is_derive_put. Qed.

Lemma moves_const N r t : moves N (fun _ => r) t (fun _ => 0).
Proof. intros i _. apply @is_derive_const. Qed.

Lemma is_derive_loss_term eps m (w l : R -> R) t dw dl :
  is_derive w t dw -> is_derive l t dl ->
  is_derive (fun y => pair_loss eps (w y - l y - m)) t (slope eps (w t - l t - m) * (dw - dl)).
Proof.
  intros Hw Hl. pose proof (is_derive_pair_loss eps (w t - l t - m)). derive. ring.
Qed.

Lemma is_derive_penalty_term (w l : R -> R) t dw dl :
  is_derive w t dw -> is_derive l t dl ->
  is_derive (fun y => (w y + l y) ^ 2) t (2 * (w t + l t) * (dw + dl)).
Proof. intros Hw Hl. derive. ring. Qed.

Lemma is_derive_loss N eps m w l t dw dl :
  moves N w t dw -> moves N l t dl ->
  is_derive (fun y => loss N eps m (w y) (l y)) t
    (mean N (fun i => slope eps (w t i - l t i - m i) * (dw i - dl i))).
Proof.
  intros Hw Hl. apply (is_derive_mean N (fun i y => pair_loss eps (w y i - l y i - m i))). intros i Hi.
  now apply (is_derive_loss_term eps (m i) (fun y => w y i) (fun y => l y i)); [apply Hw|apply Hl].
Qed.

Lemma is_derive_penalty N w l t dw dl :
  moves N w t dw -> moves N l t dl ->
  is_derive (fun y => penalty N (w y) (l y)) t (mean N (fun i => 2 * (w t i + l t i) * (dw i + dl i))).
Proof.
  intros Hw Hl. apply (is_derive_mean N (fun i y => (w y i + l y i) ^ 2)). intros i Hi.
  now apply (is_derive_penalty_term (fun y => w y i) (fun y => l y i)); [apply Hw|apply Hl].
Qed.

Lemma is_derive_objective N lambda eps m w l t dw dl :
  moves N w t dw -> moves N l t dl ->
  is_derive (fun y => objective N lambda eps m (w y) (l y)) t
    (mean N (fun i => slope eps (w t i - l t i - m i) * (dw i - dl i))
     + lambda * mean N (fun i => 2 * (w t i + l t i) * (dw i + dl i))).
Proof.
  intros Hw Hl. unfold objective. apply is_derive_Rplus; [now apply is_derive_loss|].
  now apply is_derive_Rscal, is_derive_penalty.
Qed.

(* ---- The gradient in the scores ---- *)

Lemma mean_pick N i a b : (i < N)%nat ->
  mean N (fun j => a j * b (if Nat.eqb j i then 1 else 0)) = a i * b 1 / INR N + b 0 * (mean N a - a i / INR N).
Proof.
  intros Hi. unfold mean.
  rewrite (sum_ext N _ (fun j => (if Nat.eqb j i then (b 1 - b 0) * a j else 0) + b 0 * a j)).
  - rewrite sum_plus, sum_scal, (sum_pick N i (fun j => (b 1 - b 0) * a j) Hi). unfold Rdiv. ring.
  - intros j _. destruct (Nat.eqb j i); ring.
Qed.

Lemma loss_w N eps m r_w r_l i : (i < N)%nat ->
  is_derive (fun x => loss N eps m (put r_w i x) r_l) (r_w i) (slope eps (r_w i - r_l i - m i) / INR N).
Proof.
  intros Hi. eapply is_derive_eq; [apply is_derive_loss; [apply moves_put|apply (moves_const N r_l)]|].
  cbv beta. rewrite (mean_pick N i (fun j => slope eps (put r_w i (r_w i) j - r_l j - m j)) (fun x => x - 0) Hi).
  rewrite put_same. unfold Rdiv. ring.
Qed.

Lemma loss_l N eps m r_w r_l i : (i < N)%nat ->
  is_derive (fun x => loss N eps m r_w (put r_l i x)) (r_l i) (- slope eps (r_w i - r_l i - m i) / INR N).
Proof.
  intros Hi. eapply is_derive_eq; [apply is_derive_loss; [apply (moves_const N r_w)|apply moves_put]|].
  cbv beta. rewrite (mean_pick N i (fun j => slope eps (r_w j - put r_l i (r_l i) j - m j)) (fun x => 0 - x) Hi).
  rewrite put_same. unfold Rdiv. ring.
Qed.

Lemma penalty_w N r_w r_l i : (i < N)%nat ->
  is_derive (fun x => penalty N (put r_w i x) r_l) (r_w i) (2 * (r_w i + r_l i) / INR N).
Proof.
  intros Hi. eapply is_derive_eq; [apply is_derive_penalty; [apply moves_put|apply (moves_const N r_l)]|].
  cbv beta. rewrite (mean_pick N i (fun j => 2 * (put r_w i (r_w i) j + r_l j)) (fun x => x + 0) Hi).
  rewrite put_same. unfold Rdiv. ring.
Qed.

Lemma penalty_l N r_w r_l i : (i < N)%nat ->
  is_derive (fun x => penalty N r_w (put r_l i x)) (r_l i) (2 * (r_w i + r_l i) / INR N).
Proof.
  intros Hi. eapply is_derive_eq; [apply is_derive_penalty; [apply (moves_const N r_w)|apply moves_put]|].
  cbv beta. rewrite (mean_pick N i (fun j => 2 * (r_w j + put r_l i (r_l i) j)) (fun x => 0 + x) Hi).
  rewrite put_same. unfold Rdiv. ring.
Qed.

Lemma objective_w N lambda eps m r_w r_l i : (i < N)%nat ->
  is_derive (fun x => objective N lambda eps m (put r_w i x) r_l) (r_w i)
    ((slope eps (r_w i - r_l i - m i) + 2 * lambda * (r_w i + r_l i)) / INR N).
Proof.
  intros Hi. unfold objective. eapply is_derive_eq.
  - apply is_derive_Rplus; [now apply loss_w|]. now apply is_derive_Rscal, penalty_w.
  - unfold Rdiv. ring.
Qed.

Lemma objective_l N lambda eps m r_w r_l i : (i < N)%nat ->
  is_derive (fun x => objective N lambda eps m r_w (put r_l i x)) (r_l i)
    ((- slope eps (r_w i - r_l i - m i) + 2 * lambda * (r_w i + r_l i)) / INR N).
Proof.
  intros Hi. unfold objective. eapply is_derive_eq.
  - apply is_derive_Rplus; [now apply loss_l|]. now apply is_derive_Rscal, penalty_l.
  - unfold Rdiv. ring.
Qed.

Lemma partial_loss_w N eps m r_w r_l i : (i < N)%nat ->
  partial (fun w => loss N eps m w r_l) i r_w = slope eps (r_w i - r_l i - m i) / INR N.
Proof. intros Hi. now apply is_derive_unique, loss_w. Qed.

Lemma partial_loss_l N eps m r_w r_l i : (i < N)%nat ->
  partial (fun l => loss N eps m r_w l) i r_l = - slope eps (r_w i - r_l i - m i) / INR N.
Proof. intros Hi. now apply is_derive_unique, loss_l. Qed.

Lemma partial_penalty_w N r_w r_l i : (i < N)%nat ->
  partial (fun w => penalty N w r_l) i r_w = 2 * (r_w i + r_l i) / INR N.
Proof. intros Hi. now apply is_derive_unique, penalty_w. Qed.

Lemma partial_penalty_l N r_w r_l i : (i < N)%nat ->
  partial (fun l => penalty N r_w l) i r_l = 2 * (r_w i + r_l i) / INR N.
Proof. intros Hi. now apply is_derive_unique, penalty_l. Qed.

Lemma partial_objective_w N lambda eps m r_w r_l i : (i < N)%nat ->
  partial (fun w => objective N lambda eps m w r_l) i r_w
  = (slope eps (r_w i - r_l i - m i) + 2 * lambda * (r_w i + r_l i)) / INR N.
Proof. intros Hi. now apply is_derive_unique, objective_w. Qed.

Lemma partial_objective_l N lambda eps m r_w r_l i : (i < N)%nat ->
  partial (fun l => objective N lambda eps m r_w l) i r_l
  = (- slope eps (r_w i - r_l i - m i) + 2 * lambda * (r_w i + r_l i)) / INR N.
Proof. intros Hi. now apply is_derive_unique, objective_l. Qed.

(* ---- The gradient in the weights ---- *)

Lemma score_ext p theta theta' x :
  (forall k, (k < p)%nat -> theta k = theta' k) -> score p theta x = score p theta' x.
Proof. intros H. apply sum_ext. intros k Hk. now rewrite H. Qed.

Lemma score_put_same p theta k x : score p (put theta k (theta k)) x = score p theta x.
Proof. apply score_ext. intros. apply put_same. Qed.

(* the derivative of `linear` in weight k *)
Definition gradient N lambda eps m p x_w x_l theta (k : nat) : R :=
  let r_w := fun i => score p theta (x_w i) in
  let r_l := fun i => score p theta (x_l i) in
  mean N (fun i => slope eps (r_w i - r_l i - m i) * (x_w i k - x_l i k))
  + lambda * mean N (fun i => 2 * (r_w i + r_l i) * (x_w i k + x_l i k)).

Lemma is_derive_linear N lambda eps m p x_w x_l theta k : (k < p)%nat ->
  is_derive (fun t => linear N lambda eps m p x_w x_l (put theta k t)) (theta k)
    (gradient N lambda eps m p x_w x_l theta k).
Proof.
  intros Hk. unfold linear. eapply is_derive_eq.
  - apply (is_derive_objective N lambda eps m
      (fun t i => score p (put theta k t) (x_w i)) (fun t i => score p (put theta k t) (x_l i)) (theta k)
      (fun i => x_w i k) (fun i => x_l i k)); intros i _; now apply is_derive_weight.
  - unfold gradient. f_equal; [|f_equal]; apply mean_ext; intros i _; now rewrite 2!score_put_same.
Qed.

Lemma partial_linear N lambda eps m p x_w x_l theta k : (k < p)%nat ->
  partial (linear N lambda eps m p x_w x_l) k theta = gradient N lambda eps m p x_w x_l theta k.
Proof. intros Hk. now apply is_derive_unique, is_derive_linear. Qed.

(* a direction v times the gradient *)
Lemma gradient_dot N lambda eps m p x_w x_l theta v :
  sum p (fun k => v k * gradient N lambda eps m p x_w x_l theta k) =
  mean N (fun i => slope eps (score p theta (x_w i) - score p theta (x_l i) - m i)
                   * (score p v (x_w i) - score p v (x_l i)))
  + lambda * mean N (fun i => 2 * (score p theta (x_w i) + score p theta (x_l i))
                              * (score p v (x_w i) + score p v (x_l i))).
Proof.
  assert (E : forall a (b : nat -> nat -> R),
    sum p (fun k => v k * mean N (fun i => a i * b i k)) = mean N (fun i => a i * sum p (fun k => v k * b i k))).
  { intros a b. unfold mean, Rdiv.
    rewrite (sum_ext p _ (fun k => sum N (fun i => v k * (a i * b i k)) * / INR N))
      by (intros; rewrite sum_scal; ring).
    rewrite sum_scal_r, <- sum_swap. f_equal. apply sum_ext. intros i _.
    rewrite <- sum_scal. apply sum_ext. intros. ring. }
  unfold gradient.
  rewrite (sum_ext p _ (fun k =>
    v k * mean N (fun i => slope eps (score p theta (x_w i) - score p theta (x_l i) - m i) * (x_w i k - x_l i k))
    + lambda * (v k * mean N (fun i => 2 * (score p theta (x_w i) + score p theta (x_l i)) * (x_w i k + x_l i k)))))
    by (intros; ring).
  rewrite sum_plus, sum_scal, E, E. f_equal; [|f_equal]; apply mean_ext; intros i _; f_equal; unfold score.
  - rewrite <- sum_minus. apply sum_ext. intros. ring.
  - rewrite <- sum_plus. apply sum_ext. intros. ring.
Qed.

(* ---- Mean values ---- *)

Lemma mean_value (f df : R -> R) a b :
  (forall x, is_derive f x (df x)) -> exists x, Rmin a b <= x <= Rmax a b /\ f b - f a = df x * (b - a).
Proof.
  intros H. apply MVT_gen; [intros; apply H|].
  intros x _. apply derivable_continuous_pt, ex_derive_Reals_0. now exists (df x).
Qed.

(* a derivative of 0 everywhere makes a constant *)
Lemma constant (f : R -> R) : (forall x, is_derive f x 0) -> forall a b, f a = f b.
Proof.
  intros H a b. destruct (mean_value f (fun _ => 0) a b H) as (x & _ & E). lra.
Qed.

Lemma nonneg (f df : R -> R) :
  (forall x, is_derive f x (df x)) -> (forall x, 0 <= x -> 0 <= df x) -> f 0 = 0 -> forall x, 0 <= x -> 0 <= f x.
Proof.
  intros H Hd H0 x Hx. destruct (mean_value f df 0 x H) as (y & Hy & E).
  rewrite Rmin_left in Hy by easy. pose proof (Hd y (proj1 Hy)). nra.
Qed.

(* ---- How fast the loss of a pair changes ---- *)

Lemma slope_bounds eps z : 0 <= eps <= 1 -> -1 <= slope eps z <= 1.
Proof. intros H. rewrite slope_eq. pose proof (sigmoid_pos (- z)). pose proof (sigmoid_lt_1 (- z)). lra. Qed.

Lemma pair_loss_lipschitz eps z e : 0 <= eps <= 1 -> Rabs (pair_loss eps (z + e) - pair_loss eps z) <= Rabs e.
Proof.
  intros H. destruct (mean_value _ _ z (z + e) (is_derive_pair_loss eps)) as (y & _ & E).
  rewrite E, Rabs_mult. replace (z + e - z) with e by ring. pose proof (slope_bounds eps y H).
  assert (Rabs (slope eps y) <= 1) by (apply Rabs_le; lra). pose proof (Rabs_pos e). nra.
Qed.

Lemma slope_lipschitz eps z e : Rabs (slope eps (z + e) - slope eps z) <= Rabs e / 4.
Proof.
  destruct (mean_value _ _ z (z + e) (is_derive_slope eps)) as (y & _ & E).
  rewrite E, Rabs_mult. replace (z + e - z) with e by ring.
  pose proof (curvature_pos y). pose proof (curvature_le y). rewrite (Rabs_pos_eq (curvature y)) by lra.
  pose proof (Rabs_pos e). nra.
Qed.

(* ---- The exponential ---- *)

Lemma exp_ge x : 1 + x <= exp x.
Proof.
  destruct (Rtotal_order x 0) as [H|[->|H]]; [|rewrite exp_0; lra|left; now apply exp_ineq1; lra].
  left. apply exp_ineq1. lra.
Qed.
