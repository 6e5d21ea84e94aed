(* T1. Shift invariance. *)
From Refrm Require Import Common.

(* Adding any f to both scores of each pair leaves L, every pairwise probability and the order of the two scores
   unchanged, whatever the margins and the smoothing. *)
(* begin: T1_shift *)
Theorem T1_shift (N : nat) (eps : R) (m r_w r_l f : nat -> R) :
  let r_w' := fun i => r_w i + f i in
  let r_l' := fun i => r_l i + f i in
  loss N eps m r_w' r_l' = loss N eps m r_w r_l /\
  (forall i, sigmoid (r_w' i - r_l' i - m i) = sigmoid (r_w i - r_l i - m i)) /\
  (forall i, r_w' i > r_l' i <-> r_w i > r_l i).
(* end: T1_shift *)
Proof.
  intros r_w' r_l'. unfold r_w', r_l'. split; [|split].
  - apply mean_ext. intros i _. f_equal. ring.
  - intros i. f_equal. ring.
  - intros i. split; intros H; lra.
Qed.

(* The two partial derivatives of each pair add up to 0, and the shift leaves each of them unchanged.
   (That the derivatives exist is T2.) *)
(* begin: T1_gradient *)
Theorem T1_gradient (N : nat) (eps : R) (m r_w r_l f : nat -> R) (i : nat) :
  (i < N)%nat ->
  let L := loss N eps m in
  let r_w' := fun i => r_w i + f i in
  let r_l' := fun i => r_l i + f i in
  partial (fun w => L w r_l) i r_w + partial (fun l => L r_w l) i r_l = 0 /\
  partial (fun w => L w r_l') i r_w' = partial (fun w => L w r_l) i r_w /\
  partial (fun l => L r_w' l) i r_l' = partial (fun l => L r_w l) i r_l.
(* end: T1_gradient *)
Proof.
  intros Hi L r_w' r_l'. unfold L, r_w', r_l'.
  rewrite 2!partial_loss_w, 2!partial_loss_l by easy.
  replace (r_w i + f i - (r_l i + f i) - m i) with (r_w i - r_l i - m i) by ring.
  split; [unfold Rdiv; ring|easy].
Qed.

(* The direction (f, f) is in the kernel of the Hessian: along it no partial derivative changes. *)
(* begin: T1_kernel *)
Theorem T1_kernel (N : nat) (eps : R) (m r_w r_l f : nat -> R) (i : nat) :
  (i < N)%nat ->
  let L := loss N eps m in
  let r_w' := fun t i => r_w i + t * f i in
  let r_l' := fun t i => r_l i + t * f i in
  is_derive (fun t => partial (fun w => L w (r_l' t)) i (r_w' t)) 0 0 /\
  is_derive (fun t => partial (fun l => L (r_w' t) l) i (r_l' t)) 0 0.
(* end: T1_kernel *)
Proof.
  intros Hi L r_w' r_l'.
  assert (H := fun t => proj2 (T1_gradient N eps m r_w r_l (fun j => t * f j) i Hi)).
  split; (eapply is_derive_Rext; [|apply @is_derive_const]); intros t; symmetry;
    [exact (proj1 (H t))|exact (proj2 (H t))].
Qed.

(* A part f of the scores that sees the prompt alone, and so is the same in both scores of a pair, gets no gradient: L
   does not change with it, however it depends on a parameter t. *)
(* begin: T1_prompt *)
Theorem T1_prompt (N : nat) (eps : R) (m r_w r_l : nat -> R) (f : R -> nat -> R)
    (t : R) :
  is_derive (fun t =>
    loss N eps m (fun i => r_w i + f t i) (fun i => r_l i + f t i)) t 0.
(* end: T1_prompt *)
Proof.
  apply (is_derive_Rext (fun _ => loss N eps m r_w r_l)); [|apply @is_derive_const].
  intros y. symmetry. apply (T1_shift N eps m r_w r_l (f y)).
Qed.

(* So with an output bias b, dL/db = 0 at every b. *)
(* begin: T1_bias *)
Theorem T1_bias (N : nat) (eps : R) (m r_w r_l : nat -> R) (b : R) :
  is_derive (fun b => loss N eps m (fun i => r_w i + b) (fun i => r_l i + b)) b 0.
(* end: T1_bias *)
Proof. apply (T1_prompt N eps m r_w r_l (fun b _ => b)). Qed.

(* So the scores +500 and +498 have the same loss and the same derivatives as +1 and -1. *)
(* begin: T1_example *)
Theorem T1_example (eps : R) :
  let L := loss 1 eps no_margin in
  let a := fun (x : R) (_ : nat) => x in
  L (a 500) (a 498) = L (a 1) (a (-1)) /\
  partial (fun w => L w (a 498)) 0 (a 500) = partial (fun w => L w (a (-1))) 0 (a 1) /\
  partial (fun l => L (a 500) l) 0 (a 498) = partial (fun l => L (a 1) l) 0 (a (-1)).
(* end: T1_example *)
Proof.
  intros L a. unfold L, a. rewrite 2!partial_loss_w, 2!partial_loss_l by lia.
  replace (500 - 498) with (1 - -1) by ring. repeat split; try easy.
  apply mean_ext. intros i _. f_equal. ring.
Qed.
