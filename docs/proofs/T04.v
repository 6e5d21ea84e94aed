(* T4. Uniqueness of the term. *)
From Refrm Require Import Common.

(* A quadratic form in the two scores is symmetric under exchange and vanishes on all pairs (a, -a) if and only if it is
   a multiple of (r_w + r_l)^2. *)
(* begin: T4_quadratic_form *)
Theorem T4_quadratic_form (A B C : R) :
  let Q := fun r_w r_l => A * r_w ^ 2 + B * (r_w * r_l) + C * r_l ^ 2 in
  ((forall r_w r_l, Q r_w r_l = Q r_l r_w) /\ (forall a, Q a (- a) = 0)) <->
  exists c, forall r_w r_l, Q r_w r_l = c * (r_w + r_l) ^ 2.
(* end: T4_quadratic_form *)
Proof.
  intros Q. split.
  - intros [H H0]. exists A. intros r_w r_l. unfold Q in *.
    pose proof (H 1 0). pose proof (H0 1). replace C with A by lra. replace B with (2 * A) by lra. ring.
  - intros (c & H). split; intros; rewrite 1?H; [rewrite H|]; ring.
Qed.

Lemma constant_path (f : R -> R) : (forall t, is_derive (fun u => f (t + u)) 0 0) -> forall a b, f a = f b.
Proof.
  intros H. apply constant. intros t.
  apply (is_derive_Rext (fun y => (fun u => f (t + u)) (y - t))).
  { intros y. f_equal. ring. }
  specialize (H t). set (g := fun u => f (t + u)) in *.
  assert (H' : is_derive g (t - t) 0) by now rewrite Rminus_diag_eq.
  change (is_derive (fun y => g (y - t)) t 0). derive. ring.
Qed.

(* More generally: any penalty P of the scores of N pairs, on which no change of a d has a force, is a function of the
   sums alone. (The first hypothesis says that P is a function of the scores of the N pairs.) *)
(* begin: T4_no_force *)
Theorem T4_no_force (N : nat) (P : (nat -> R) -> (nat -> R) -> R) :
  (forall r_w r_l r_w' r_l',
    (forall i, (i < N)%nat -> r_w i = r_w' i /\ r_l i = r_l' i) ->
    P r_w r_l = P r_w' r_l') ->
  (forall r_w r_l i, (i < N)%nat ->
    is_derive (fun t => P (put r_w i (r_w i + t)) (put r_l i (r_l i - t))) 0 0) ->
  forall r_w r_l r_w' r_l',
  (forall i, (i < N)%nat -> r_w i + r_l i = r_w' i + r_l' i) -> P r_w r_l = P r_w' r_l'.
(* end: T4_no_force *)
Proof.
  intros Ext F r_w r_l r_w' r_l' Eq.
  (* change the pairs one after the other *)
  set (mix := fun k (r r' : nat -> R) j => if Nat.ltb j k then r' j else r j).
  assert (H : forall k, (k <= N)%nat -> P r_w r_l = P (mix k r_w r_w') (mix k r_l r_l')).
  { induction k as [|k IH]; intros Hk; [apply Ext; now intros|]. rewrite IH by lia.
    set (w := mix k r_w r_w'). set (l := mix k r_l r_l').
    assert (Hw : w k = r_w k) by (unfold w, mix; now rewrite Nat.ltb_irrefl).
    assert (Hl : l k = r_l k) by (unfold l, mix; now rewrite Nat.ltb_irrefl).
    set (f := fun t => P (put w k (w k + t)) (put l k (l k - t))).
    assert (E : f 0 = f (r_w' k - r_w k)).
    { apply constant_path. intros t.
      apply (is_derive_Rext (fun u => P (put (put w k (w k + t)) k (put w k (w k + t) k + u))
                                       (put (put l k (l k - t)) k (put l k (l k - t) k - u)))).
      - intros u. apply Ext. intros j _. rewrite 2!put_at. unfold put.
        destruct (Nat.eqb j k); split; ring || reflexivity.
      - apply F. lia. }
    transitivity (f 0); [|transitivity (f (r_w' k - r_w k)); [exact E|]]; apply Ext; intros j _.
    - rewrite Rplus_0_r, Rminus_0_r. now rewrite 2!put_same.
    - specialize (Eq k ltac:(lia)). rewrite Hw, Hl. unfold w, l, put, mix.
      destruct (Nat.eqb_spec j k) as [->|Hn].
      + rewrite (proj2 (Nat.ltb_lt k (S k))) by lia. lra.
      + destruct (Nat.ltb_spec j k), (Nat.ltb_spec j (S k)); try lia; easy. }
  rewrite (H N (le_n N)). apply Ext. intros i Hi. unfold mix. now rewrite (proj2 (Nat.ltb_lt i N)).
Qed.

(* ---- K responses ---- *)

(* begin: K_responses *)
(* the quadratic form with coefficients A, and the scores r with those of the responses
   i and j exchanged *)
Definition form (K : nat) (A : nat -> nat -> R) (r : nat -> R) : R :=
  sum K (fun j => sum K (fun k => A j k * r j * r k)).

Definition exchange (i j : nat) (r : nat -> R) : nat -> R :=
  fun k => r (if Nat.eqb k i then j else if Nat.eqb k j then i else k).
(* end: K_responses *)

Definition unit (i : nat) : nat -> R := fun j => if Nat.eqb j i then 1 else 0.

Lemma form_ext K A r r' : (forall k, (k < K)%nat -> r k = r' k) -> form K A r = form K A r'.
Proof. intros H. apply sum_ext. intros j Hj. apply sum_ext. intros k Hk. now rewrite 2!H. Qed.

Definition bilinear K (A : nat -> nat -> R) r q := sum K (fun j => sum K (fun k => A j k * r j * q k)).

Lemma form_plus K A r q :
  form K A (fun k => r k + q k) = form K A r + form K A q + (bilinear K A r q + bilinear K A q r).
Proof.
  unfold form, bilinear. rewrite <- 3!sum_plus. apply sum_ext. intros j _.
  rewrite <- 3!sum_plus. apply sum_ext. intros k _. ring.
Qed.

Lemma bilinear_unit K A i j : (i < K)%nat -> (j < K)%nat -> bilinear K A (unit i) (unit j) = A i j.
Proof.
  intros Hi Hj. unfold bilinear, unit.
  rewrite (sum_ext K _ (fun j' => if Nat.eqb j' i then A j' j else 0)); [now rewrite sum_pick|].
  intros j' _. destruct (Nat.eqb j' i).
  - rewrite <- (sum_pick K j (fun k => A j' k)) by easy. apply sum_ext. intros k _. destruct (Nat.eqb k j); ring.
  - apply sum_0. intros. ring.
Qed.

Lemma form_unit K A i : (i < K)%nat -> form K A (unit i) = A i i.
Proof. intros Hi. now apply bilinear_unit. Qed.

Ltac cases :=
  repeat match goal with |- context [Nat.eqb ?a ?b] => is_var a; destruct (Nat.eqb_spec a b) end; congruence.

Lemma exchange_unit i j k : exchange i j (unit j) k = unit i k.
Proof. unfold exchange, unit. cases. Qed.

Lemma exchange_fix i j h k : h <> i -> h <> j -> exchange i j (unit h) k = unit h k.
Proof. intros Hi Hj. unfold exchange, unit. cases. Qed.

(* The quadratic forms in K scores that no exchange of two responses changes are a sum r_k^2 + b (sum r_k)^2. *)
(* begin: T4_K_responses *)
Theorem T4_K_responses (K : nat) (A : nat -> nat -> R) :
  (forall i j r, (i < K)%nat -> (j < K)%nat ->
    form K A (exchange i j r) = form K A r) ->
  exists a b, forall r, form K A r = a * sum K (fun k => r k ^ 2) + b * sum K r ^ 2.
(* end: T4_K_responses *)
Proof.
  intros H. set (B := fun i j => A i j + A j i).
  assert (Diag : forall i j, (i < K)%nat -> (j < K)%nat -> A i i = A j j).
  { intros i j Hi Hj. rewrite <- (form_unit K A i), <- (form_unit K A j) by easy.
    rewrite <- (H i j (unit j) Hi Hj). apply form_ext. intros k _. symmetry. apply exchange_unit. }
  (* one index moves while the other stays *)
  assert (Move : forall i j h, (i < K)%nat -> (j < K)%nat -> (h < K)%nat -> h <> i -> h <> j -> B i h = B j h).
  { intros i j h Hi Hj Hh Hhi Hhj.
    assert (E : form K A (fun k => unit i k + unit h k) = form K A (fun k => unit j k + unit h k)).
    { rewrite <- (H i j (fun k => unit j k + unit h k) Hi Hj). apply form_ext. intros k _.
      rewrite <- (exchange_unit i j k), <- (exchange_fix i j h k) by easy. easy. }
    rewrite 2!form_plus, 4!bilinear_unit, 3!form_unit in E by easy. rewrite (Diag i j Hi Hj) in E. unfold B. lra. }
  assert (Sym : forall i j, B i j = B j i) by (intros; unfold B; ring).
  assert (Off : forall i j i' j', (i < K)%nat -> (j < K)%nat -> (i' < K)%nat -> (j' < K)%nat ->
    i <> j -> i' <> j' -> B i j = B i' j').
  { intros i j i' j' Hi Hj Hi' Hj' Hn Hn'. destruct (Nat.eq_dec i' j) as [->|H1].
    - rewrite (Sym j j'). apply Move; auto.
    - rewrite (Move i i' j), (Sym i' j), (Sym i' j') by auto. apply Move; auto. }
  set (a := A 0%nat 0%nat). set (b := B 0%nat 1%nat).
  exists (a - b / 2), (b / 2). intros r.
  assert (E : form K A r + form K A r = sum K (fun j => sum K (fun k => B j k * r j * r k))).
  { unfold form at 2. rewrite sum_swap. unfold form. rewrite <- sum_plus. apply sum_ext. intros j _.
    rewrite <- sum_plus. apply sum_ext. intros k _. unfold B. ring. }
  rewrite (sum_ext K _ (fun j => b * sum K r * r j + (2 * a - b) * r j ^ 2)) in E.
  { rewrite sum_plus, 2!sum_scal in E. lra. }
  intros j Hj.
  rewrite (sum_ext K _ (fun k => b * r j * r k + (if Nat.eqb k j then (2 * a - b) * r j * r k else 0))).
  { rewrite sum_plus, sum_scal, (sum_pick K j (fun k => (2 * a - b) * r j * r k) Hj). ring. }
  intros k Hk. destruct (Nat.eqb_spec k j) as [->|Hn].
  - unfold B, a. rewrite (Diag j 0%nat) by lia. ring.
  - unfold b. rewrite (Off j k 0%nat 1%nat) by lia. ring.
Qed.

(* No force on one difference r_i - r_j at one point where r_i <> r_j forces a = 0: then it is b (sum r_k)^2. *)
(* begin: T4_K_no_force *)
Theorem T4_K_no_force (K : nat) (a b : R) (r : nat -> R) (i j : nat) :
  (i < K)%nat -> (j < K)%nat -> r i <> r j ->
  let Q := fun r => a * sum K (fun k => r k ^ 2) + b * sum K r ^ 2 in
  is_derive (fun t => Q (put (put r i (r i + t)) j (r j - t))) 0 0 ->
  a = 0.
(* end: T4_K_no_force *)
Proof.
  intros Hi Hj Hne Q H. assert (Hij : j <> i) by congruence.
  assert (D : is_derive (fun t => Q (put (put r i (r i + t)) j (r j - t))) 0 (2 * a * (r i - r j))).
  { set (sq := sum K (fun k => r k ^ 2)). set (si := sum K (fun k => r k)).
    apply (is_derive_Rext (fun t => a * (sq - r i ^ 2 + (r i + t) ^ 2 - r j ^ 2 + (r j - t) ^ 2) + b * si ^ 2)).
    - intros t. unfold Q. set (q := put (put r i (r i + t)) j (r j - t)).
      assert (Sum : forall f : nat -> R -> R, sum K (fun k => f k (q k))
        = sum K (fun k => f k (r k)) - f i (r i) + f i (r i + t) - f j (r j) + f j (r j - t)).
      { intros f. unfold q. rewrite sum_put, sum_put by easy. now rewrite put_other by easy. }
      change (sum K q) with (sum K (fun k => q k)). rewrite (Sum (fun _ x => x ^ 2)), (Sum (fun _ x => x)).
      fold sq si. ring.
    - auto_derive; [easy|]. ring. }
  pose proof (is_derive_same _ _ _ _ D H) as E.
  apply (Rmult_eq_reg_r (2 * (r i - r j))); [lra|]. intros Z. apply Hne. lra.
Qed.

(* So does the value 0 at one point where the sum is 0, other than the origin. *)
(* begin: T4_K_zero *)
Theorem T4_K_zero (K : nat) (a b : R) (r : nat -> R) (i : nat) :
  sum K r = 0 -> (i < K)%nat -> r i <> 0 ->
  a * sum K (fun k => r k ^ 2) + b * sum K r ^ 2 = 0 ->
  a = 0.
(* end: T4_K_zero *)
Proof.
  intros E Hi Hne H. rewrite E in H.
  pose proof (sum_term K (fun k => r k ^ 2) i (fun j _ => pow2_ge_0 _) Hi) as L. cbv beta in L.
  pose proof (pow2_gt_0 (r i) Hne).
  apply (Rmult_eq_reg_r (sum K (fun k => r k ^ 2))); lra.
Qed.

(* Any penalty of the scores of K responses, quadratic or not, on which no difference of two scores has a force, is a
   function of their sum alone. *)
(* begin: T4_K_force *)
Theorem T4_K_force (K : nat) (P : (nat -> R) -> R) :
  (forall r r', (forall k, (k < K)%nat -> r k = r' k) -> P r = P r') ->
  (forall r i j, (i < K)%nat -> (j < K)%nat -> i <> j ->
    is_derive (fun t => P (put (put r i (r i + t)) j (r j - t))) 0 0) ->
  forall r r', sum K r = sum K r' -> P r = P r'.
(* end: T4_K_force *)
Proof.
  intros Ext F.
  (* move all scores into the first, one after the other *)
  set (stage := fun (r : nat -> R) k j => if Nat.eqb j 0 then sum k r else if Nat.ltb j k then 0 else r j).
  assert (H : forall r k, (S k <= K)%nat -> P r = P (stage r (S k))).
  { intros r. induction k as [|k IH]; intros Hk.
    - apply Ext. intros j _. unfold stage. destruct (Nat.eqb_spec j 0) as [->|]; [simpl; ring|].
      now rewrite (proj2 (Nat.ltb_ge j 1)) by lia.
    - rewrite IH by lia. set (q := stage r (S k)).
      set (f := fun t => P (put (put q 0 (q 0%nat + t)) (S k) (q (S k) - t))).
      assert (E : f 0 = f (q (S k))).
      { apply constant_path. intros t.
        set (w := put (put q 0 (q 0%nat + t)) (S k) (q (S k) - t)).
        apply (is_derive_Rext (fun u => P (put (put w 0 (w 0%nat + u)) (S k) (w (S k) - u)))).
        - intros u. apply Ext. intros j _. unfold w. rewrite put_at, (put_other _ (S k) 0), put_at by lia.
          unfold put. destruct (Nat.eqb j (S k)), (Nat.eqb j 0); ring.
        - apply F; lia. }
      transitivity (f 0); [|transitivity (f (q (S k))); [exact E|]]; apply Ext; intros j _.
      + rewrite Rplus_0_r, Rminus_0_r. unfold put.
        destruct (Nat.eqb_spec j (S k)) as [->|]; [easy|]. now destruct (Nat.eqb_spec j 0) as [->|].
      + unfold q, put, stage. destruct (Nat.eqb_spec j (S k)) as [->|Hn].
        * rewrite Rminus_diag_eq by easy. simpl (Nat.eqb (S k) 0).
          now rewrite (proj2 (Nat.ltb_lt (S k) (S (S k)))) by lia.
        * rewrite (Nat.ltb_irrefl (S k)). simpl (Nat.eqb (S k) 0). simpl (Nat.eqb 0 0). cbv iota.
          destruct (Nat.eqb_spec j 0) as [->|]; [reflexivity|].
          destruct (Nat.ltb_spec j (S k)), (Nat.ltb_spec j (S (S k))); try lia; easy. }
  intros r r' E. destruct K as [|K]; [apply Ext; intros; lia|].
  rewrite (H r K (le_n _)), (H r' K (le_n _)). apply Ext. intros j Hj. unfold stage. rewrite E.
  destruct (Nat.eqb j 0); [easy|]. now rewrite (proj2 (Nat.ltb_lt j (S K))).
Qed.

(* So a quadratic form, invariant or not, that puts no force on any difference is a multiple of (sum r_k)^2. *)
(* begin: T4_K_unique *)
Theorem T4_K_unique (K : nat) (A : nat -> nat -> R) :
  (forall r i j, (i < K)%nat -> (j < K)%nat -> i <> j ->
    is_derive (fun t => form K A (put (put r i (r i + t)) j (r j - t))) 0 0) ->
  exists c, forall r, form K A r = c * sum K r ^ 2.
(* end: T4_K_unique *)
Proof.
  intros F. exists (A 0%nat 0%nat). intros r. destruct K as [|K]; [unfold form; simpl; ring|].
  rewrite (T4_K_force (S K) (form (S K) A) (form_ext (S K) A) F r (fun k => sum (S K) r * unit 0 k)).
  - rewrite <- (form_unit (S K) A 0) by lia. set (a := sum (S K) r). unfold form.
    rewrite (sum_ext (S K) _ (fun j => a ^ 2 * sum (S K) (fun k => A j k * unit 0 j * unit 0 k))).
    + rewrite sum_scal. ring.
    + intros j _. rewrite <- sum_scal. apply sum_ext. intros. ring.
  - rewrite sum_scal. rewrite <- (Rmult_1_r (sum (S K) r)) at 1. f_equal.
    symmetry. apply (sum_pick (S K) 0 (fun _ => 1)). lia.
Qed.
