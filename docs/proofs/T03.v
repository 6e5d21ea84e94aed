(* T3. Decoupling. *)
From Refrm Require Import Common.

(* In the coordinates d = r_w - r_l and s = r_w + r_l, that is r_w = (s + d)/2 and r_l = (s - d)/2, the objective is
   a function of d plus a function of s. *)
(* begin: T3_decoupling *)
Theorem T3_decoupling (N : nat) (lambda eps : R) (m d s : nat -> R) :
  objective N lambda eps m (fun i => (s i + d i) / 2) (fun i => (s i - d i) / 2) =
  mean N (fun i => pair_loss eps (d i - m i)) + lambda * mean N (fun i => s i ^ 2).
(* end: T3_decoupling *)
Proof.
  unfold objective, loss, penalty. f_equal; [|f_equal]; apply mean_ext; intros i _; f_equal; field.
Qed.

(* The penalty puts no force on the d, the loss none on the s: along any change e of the d the derivative of P is 0,
   along any change e of the s that of L. *)
(* begin: T3_forces *)
Theorem T3_forces (N : nat) (eps : R) (m r_w r_l e : nat -> R) :
  is_derive (fun t =>
    penalty N (fun i => r_w i + t * e i) (fun i => r_l i - t * e i)) 0 0 /\
  is_derive (fun t =>
    loss N eps m (fun i => r_w i + t * e i) (fun i => r_l i + t * e i)) 0 0.
(* end: T3_forces *)
Proof.
  split.
  - apply (is_derive_Rext (fun _ => penalty N r_w r_l)); [|apply @is_derive_const].
    intros t. apply mean_ext. intros i _. f_equal. ring.
  - apply (is_derive_Rext (fun _ => loss N eps m r_w r_l)); [|apply @is_derive_const].
    intros t. apply mean_ext. intros i _. f_equal. ring.
Qed.

(* In the scores of each pair, and so in all 2 N scores, the gradients of L and of P are orthogonal. *)
(* begin: T3_orthogonal *)
Theorem T3_orthogonal (N : nat) (eps : R) (m r_w r_l : nat -> R) :
  let product := fun i =>
    partial (fun w => loss N eps m w r_l) i r_w
      * partial (fun w => penalty N w r_l) i r_w +
    partial (fun l => loss N eps m r_w l) i r_l
      * partial (fun l => penalty N r_w l) i r_l in
  (forall i, (i < N)%nat -> product i = 0) /\ sum N product = 0.
(* end: T3_orthogonal *)
Proof.
  intros product. assert (H : forall i, (i < N)%nat -> product i = 0).
  - intros i Hi. unfold product.
    rewrite partial_loss_w, partial_loss_l, partial_penalty_w, partial_penalty_l by easy. unfold Rdiv. ring.
  - split; [easy|now apply sum_0].
Qed.
