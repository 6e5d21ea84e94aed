(* T12. Batch-wise sum-to-zero. *)
From Coq Require Import List Sorted FinFun.
From Refrm Require Import Common.
Import ListNotations.

Lemma variance_eq N s : (0 < N)%nat -> variance N s = mean N (fun i => s i ^ 2) - mean N s ^ 2.
Proof.
  intros HN. unfold variance.
  rewrite (mean_ext N _ (fun i => s i ^ 2 - 2 * mean N s * s i + mean N s ^ 2)) by (intros; ring).
  rewrite mean_plus, mean_minus, mean_scal, mean_const by easy. ring.
Qed.

(* Jensen: (mean s)^2 <= mean s^2, with equality iff all s_i are equal. *)
(* begin: T12_jensen *)
Theorem T12_jensen (N : nat) (s : nat -> R) :
  (0 < N)%nat ->
  mean N s ^ 2 <= mean N (fun i => s i ^ 2) /\
  (mean N s ^ 2 = mean N (fun i => s i ^ 2) <->
    forall i j, (i < N)%nat -> (j < N)%nat -> s i = s j).
(* end: T12_jensen *)
Proof.
  intros HN. split; [now apply mean_square|]. split.
  - intros E i j Hi Hj. assert (V : variance N s = 0) by (rewrite variance_eq by easy; lra).
    pose proof (mean_eq_0 N _ HN (fun i _ => pow2_ge_0 _) V) as Z. cbv beta in Z.
    pose proof (Z i Hi) as Zi. pose proof (Z j Hj) as Zj.
    assert (s i - mean N s = 0) by nra. assert (s j - mean N s = 0) by nra. lra.
  - intros E. assert (C : forall i, (i < N)%nat -> s i = s 0%nat) by (intros; now apply E).
    rewrite (mean_ext N s (fun _ => s 0%nat) C), mean_const by easy.
    rewrite (mean_ext N _ (fun _ => s 0%nat ^ 2)) by (intros i Hi; now rewrite (C i Hi)). now rewrite mean_const.
Qed.

(* begin: batches *)
(* all ways to choose B of the entries of the list l, in the order of l;
   `seq 0 N` is the list 0, 1, ..., N - 1 *)
Fixpoint batches (B : nat) (l : list nat) : list (list nat) :=
  match B, l with
  | O, _ => [[]]
  | S _, [] => []
  | S b, i :: l' => map (cons i) (batches b l') ++ batches B l'
  end.

(* the mean of f over a list *)
Definition total {X : Type} (f : X -> R) (l : list X) : R :=
  fold_right (fun x t => f x + t) 0 l.

Definition average {X : Type} (f : X -> R) (l : list X) : R :=
  total f l / INR (length l).
(* end: batches *)

Lemma total_app {X} (f : X -> R) l l' : total f (l ++ l') = total f l + total f l'.
Proof. unfold total. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_map {X Y} (f : Y -> R) (g : X -> Y) l : total f (map g l) = total (fun x => f (g x)) l.
Proof. unfold total. induction l as [|x l IH]; simpl; [easy|]. now rewrite IH. Qed.

Lemma total_ext {X} (f g : X -> R) l : (forall x, In x l -> f x = g x) -> total f l = total g l.
Proof.
  unfold total. induction l as [|x l IH]; intros H; simpl; [easy|].
  rewrite IH by (intros; apply H; now right). now rewrite (H x) by now left.
Qed.

Lemma total_plus {X} (f g : X -> R) l : total (fun x => f x + g x) l = total f l + total g l.
Proof. unfold total. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_scal {X} a (f : X -> R) l : total (fun x => a * f x) l = a * total f l.
Proof. unfold total. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_const {X} a (l : list X) : total (fun _ => a) l = INR (length l) * a.
Proof.
  unfold total. induction l as [|x l IH]; simpl length; [simpl; ring|]. rewrite S_INR. simpl. rewrite IH. ring.
Qed.

Lemma total_seq f N : total f (seq 0 N) = sum N f.
Proof.
  induction N as [|N IH]; [easy|]. rewrite seq_S, total_app, IH. unfold total. simpl. ring.
Qed.

(* The batches of `batches B (seq 0 N)` are all sets of B pairs, each once: the increasing lists of B indices
   below N. *)
(* begin: T12_batches *)
Theorem T12_batches (B N : nat) :
  (forall b, In b (batches B (seq 0 N)) <->
    length b = B /\ StronglySorted lt b /\ forall i, In i b -> (i < N)%nat) /\
  NoDup (batches B (seq 0 N)).
(* end: T12_batches *)
Proof.
  assert (H : forall n B a,
    (forall b, In b (batches B (seq a n)) <->
      length b = B /\ StronglySorted lt b /\ forall i, In i b -> (a <= i < a + n)%nat) /\
    NoDup (batches B (seq a n))).
  { induction n as [|n IH]; intros B' a; destruct B' as [|B'].
    - split; [|repeat constructor; easy]. intros b. simpl. split.
      + intros [<-|[]]. repeat split; try easy; constructor.
      + intros (Hl & _). left. symmetry. now apply length_zero_iff_nil.
    - split; [|constructor]. intros b. simpl. split; [easy|]. intros (Hl & _ & Hi).
      destruct b as [|i b]; [easy|]. specialize (Hi i (or_introl eq_refl)). lia.
    - split; [|repeat constructor; easy]. intros b. simpl. split.
      + intros [<-|[]]. repeat split; try easy; constructor.
      + intros (Hl & _). left. symmetry. now apply length_zero_iff_nil.
    - destruct (IH B' (S a)) as [Hin Hnd]. destruct (IH (S B') (S a)) as [Hin' Hnd']. clear IH.
      cbn [seq batches]. split.
      + intros b. rewrite in_app_iff, in_map_iff. split.
        * intros [(b' & <- & Hb)|Hb].
          -- apply Hin in Hb. destruct Hb as (Hl & Hs & Hi). simpl. split; [lia|]. split.
             ++ constructor; [easy|]. apply Forall_forall. intros i Hb. specialize (Hi i Hb). lia.
             ++ intros i [<-|Hb]; [lia|]. specialize (Hi i Hb). lia.
          -- apply Hin' in Hb. destruct Hb as (Hl & Hs & Hi). split; [easy|]. split; [easy|].
             intros i Hb. specialize (Hi i Hb). lia.
        * intros (Hl & Hs & Hi). destruct b as [|i b]; [easy|].
          inversion Hs as [|? ? Hs' Hf]. subst. rewrite Forall_forall in Hf.
          destruct (Nat.eq_dec i a) as [->|Hne].
          -- left. exists b. split; [easy|]. apply Hin. split; [simpl in Hl; lia|]. split; [easy|].
             intros j Hj. specialize (Hf j Hj). specialize (Hi j (or_intror Hj)). lia.
          -- right. apply Hin'. split; [easy|]. split; [easy|]. intros j Hj.
             pose proof (Hi i (or_introl eq_refl)). destruct Hj as [<-|Hj]; [lia|].
             specialize (Hf j Hj). specialize (Hi j (or_intror Hj)). lia.
      + assert (Hm : NoDup (map (cons a) (batches B' (seq (S a) n)))).
        { apply Injective_map_NoDup; [|easy]. intros x y E. congruence. }
        assert (Hd : forall b, In b (map (cons a) (batches B' (seq (S a) n))) ->
          ~ In b (batches (S B') (seq (S a) n))).
        { intros b Hb Hb'. apply in_map_iff in Hb. destruct Hb as (b' & <- & _). apply Hin' in Hb'.
          destruct Hb' as (_ & _ & Hi). specialize (Hi a (or_introl eq_refl)). lia. }
        revert Hm Hd. generalize (map (cons a) (batches B' (seq (S a) n))). intros l Hm Hd.
        induction l as [|x l IHl]; [easy|]. inversion Hm. subst. simpl. constructor.
        * rewrite in_app_iff. intros [|Hx]; [easy|]. apply (Hd x); [now left|easy].
        * apply IHl; [easy|]. intros b Hb. apply Hd. now right. }
  destruct (H N B 0%nat) as [Hin Hnd]. split; [|easy]. intros b. rewrite Hin.
  split; intros (Hl & Hs & Hi); (split; [easy|split; [easy|]]); intros i Hb; specialize (Hi i Hb); lia.
Qed.

(* Pascal's triangle *)
Fixpoint choose (n k : nat) : R :=
  match n, k with
  | _, O => 1
  | O, S _ => 0
  | S n, S k => choose n k + choose n (S k)
  end.

Lemma choose_0 n : choose n 0 = 1.
Proof. now destruct n. Qed.

Lemma count l : forall B, INR (length (batches B l)) = choose (length l) B.
Proof.
  induction l as [|i l IH]; intros [|B]; try easy.
  cbn [batches length choose]. rewrite app_length, map_length, plus_INR, 2!IH. reflexivity.
Qed.

(* k + 1 times n + 1 over k + 1 is n + 1 times n over k *)
Lemma absorb n : forall k, INR (S k) * choose (S n) (S k) = INR (S n) * choose n k.
Proof.
  induction n as [|n IH]; intros k.
  - destruct k; simpl; ring.
  - change (choose (S (S n)) (S k)) with (choose (S n) k + choose (S n) (S k)).
    rewrite Rmult_plus_distr_l, IH, (S_INR k), Rmult_plus_distr_r.
    destruct k as [|k]; [rewrite 2!choose_0, (S_INR (S n)); change (INR 0) with 0; ring|].
    rewrite IH. change (choose (S n) (S k)) with (choose n k + choose n (S k)). rewrite (S_INR (S n)). ring.
Qed.

Lemma choose_pos n : forall k, (k <= n)%nat -> 0 < choose n k.
Proof.
  assert (P : forall n k, 0 <= choose n k).
  { clear n. induction n as [|n IH]; intros [|k]; simpl; try lra. pose proof (IH k). pose proof (IH (S k)). lra. }
  induction n as [|n IH]; intros [|k] H; simpl; try lra; try lia.
  pose proof (IH k ltac:(lia)). pose proof (P n (S k)). lra.
Qed.

Lemma batches_0 l : batches 0 l = [[]].
Proof. now destruct l. Qed.

(* the sum, over all batches, of the sum over the batch *)
Lemma batches_first s l : forall B,
  total (total s) (batches (S B) l) = choose (pred (length l)) B * total s l.
Proof.
  induction l as [|i l IH]; intros B; [change (0 = choose 0 B * 0); ring|].
  cbn [batches]. rewrite total_app, total_map, IH.
  rewrite (total_ext _ (fun b => s i + total s b)) by easy. rewrite total_plus, total_const, count.
  change (total s (i :: l)) with (s i + total s l). cbn [length pred].
  destruct B as [|B].
  - rewrite 2!choose_0, batches_0. change (total (total s) [[]]) with (0 + 0). ring.
  - rewrite IH. destruct l as [|j l]; [change (total s []) with 0; cbn [length pred choose]; ring|].
    cbn [length pred choose]. ring.
Qed.

(* and of its square *)
Lemma batches_one s l : total (fun b => total s b ^ 2) (batches 1 l) = total (fun i => s i ^ 2) l.
Proof.
  
  induction l as [|i l IH]; [easy|]. cbn [batches]. rewrite batches_0, total_app, IH.
  unfold total. simpl. ring.
Qed.

Lemma batches_second s l : forall B,
  total (fun b => total s b ^ 2) (batches (S (S B)) l)
  = choose (pred (length l)) (S B) * total (fun i => s i ^ 2) l
    + choose (pred (pred (length l))) B * (total s l ^ 2 - total (fun i => s i ^ 2) l).
Proof.
  induction l as [|i l IH]; intros B.
  { change (0 = choose 0 (S B) * 0 + choose 0 B * (0 ^ 2 - 0)). ring. }
  set (q := total (fun i => s i ^ 2) l) in *. set (t := total s l) in *.
  change (batches (S (S B)) (i :: l)) with (map (cons i) (batches (S B) l) ++ batches (S (S B)) l).
  rewrite total_app, total_map, IH.
  rewrite (total_ext _ (fun b => s i ^ 2 + (2 * s i * total s b + total s b ^ 2)))
    by (intros b _; change (total s (i :: b)) with (s i + total s b); ring).
  rewrite 2!total_plus, total_const, total_scal, count, batches_first. fold t.
  change (total s (i :: l)) with (s i + t). change (total (fun i => s i ^ 2) (i :: l)) with (s i ^ 2 + q).
  cbn [length pred].
  assert (Z0 : l = [] -> q = 0 /\ t = 0) by (intros ->; split; reflexivity).
  assert (Z1 : forall j, l = [j] -> t ^ 2 - q = 0)
    by (intros j ->; unfold t, q, total; simpl; ring).
  destruct B as [|B].
  - rewrite batches_one. fold q. rewrite !choose_0.
    destruct l as [|j l]; [destruct (Z0 eq_refl) as [-> ->]; simpl; ring|].
    cbn [length pred choose]. rewrite choose_0. ring.
  - rewrite IH. destruct l as [|j [|k l]].
    + destruct (Z0 eq_refl) as [-> ->]. simpl. ring.
    + rewrite (Rminus_diag_eq (t ^ 2) q) by (specialize (Z1 j eq_refl); lra). specialize (Z1 j eq_refl).
      replace ((s i + t) ^ 2 - (s i ^ 2 + q)) with (2 * s i * t) by lra. cbn [length pred choose]. ring.
    + cbn [length pred choose]. ring.
Qed.

(* Over all minibatches of B of N pairs, each taken once, the mean of (mean_B s)^2 is
   (mean s)^2 + (Var s / B) (N - B) / (N - 1). *)
(* begin: T12_expectation *)
Theorem T12_expectation (N B : nat) (s : nat -> R) :
  (2 <= N)%nat -> (1 <= B <= N)%nat ->
  average (fun b => average s b ^ 2) (batches B (seq 0 N))
  = mean N s ^ 2 + variance N s / INR B * ((INR N - INR B) / (INR N - 1)).
(* end: T12_expectation *)
Proof.
  intros HN HB. destruct (T12_batches B N) as [In_b _].
  set (Q := sum N (fun i => s i ^ 2)). set (T := sum N s).
  assert (V : variance N s = Q / INR N - (T / INR N) ^ 2) by (rewrite variance_eq by lia; reflexivity).
  rewrite V. unfold mean. fold T. unfold average at 1. rewrite count, seq_length.
  rewrite (total_ext _ (fun b => / INR B ^ 2 * total s b ^ 2)).
  2: { intros b Hb. unfold average. apply In_b in Hb. destruct Hb as (-> & _). field.
       apply not_0_INR. lia. }
  rewrite total_scal.
  destruct N as [|[|n]]; [lia|lia|]. destruct B as [|B]; [lia|].
  pose proof (absorb (S n) B) as A1. pose proof (choose_pos (S n) B ltac:(lia)) as P1.
  pose proof (choose_pos (S (S n)) (S B) ltac:(lia)) as P0.
  assert (N0 : INR (S (S n)) <> 0) by (apply not_0_INR; lia).
  assert (B0 : INR (S B) <> 0) by (apply not_0_INR; lia).
  assert (N1 : INR (S (S n)) - 1 <> 0) by (rewrite 2!S_INR; pose proof (pos_INR n); lra).
  replace (choose (S (S n)) (S B)) with (INR (S (S n)) * choose (S n) B / INR (S B))
    by (rewrite <- A1; field; easy).
  destruct B as [|B].
  - rewrite batches_one, total_seq, choose_0. fold Q. simpl (INR 1). field. split; easy.
  - rewrite batches_second, seq_length, 2!total_seq. fold Q T. cbn [pred].
    pose proof (absorb n B) as A2. pose proof (choose_pos n B ltac:(lia)) as P2.
    assert (B1 : INR (S B) <> 0) by (apply not_0_INR; lia).
    assert (N2 : INR (S n) <> 0) by (apply not_0_INR; lia).
    replace (choose (S n) (S B)) with (INR (S n) * choose n B / INR (S B)) by (rewrite <- A2; field; easy).
    rewrite (S_INR (S n)), (S_INR (S B)) in *. field. repeat split; try easy; lra.
Qed.

(* So with B = 1 it is the squared-sum term, and with B = N it sees only the mean. *)
(* begin: T12_extremes *)
Theorem T12_extremes (N : nat) (s : nat -> R) :
  (1 <= N)%nat ->
  average (fun b => average s b ^ 2) (batches 1 (seq 0 N))
    = mean N (fun i => s i ^ 2) /\
  average (fun b => average s b ^ 2) (batches N (seq 0 N)) = mean N s ^ 2.
(* end: T12_extremes *)
Proof.
  intros HN.
  assert (One : average (fun b => average s b ^ 2) (batches 1 (seq 0 N)) = mean N (fun i => s i ^ 2)).
  { destruct (T12_batches 1 N) as [In_b _]. unfold average at 1. rewrite count, seq_length.
    rewrite (total_ext _ (fun b => total s b ^ 2))
      by (intros b Hb; unfold average; apply In_b in Hb; destruct Hb as (-> & _); simpl (INR 1); field).
    rewrite batches_one, total_seq. unfold mean. f_equal.
    clear. induction N as [|N IH]; [easy|]. cbn [choose]. rewrite choose_0, S_INR, IH. ring. }
  split; [easy|]. destruct (Nat.eq_dec N 1) as [->|].
  - rewrite One. unfold mean. simpl. field.
  - rewrite T12_expectation by lia. unfold Rdiv. ring.
Qed.

(* For any other B, and s that are not all equal, it is in between, and it depends on B. *)
(* begin: T12_depends_on_B *)
Theorem T12_depends_on_B (N B B' : nat) (s : nat -> R) :
  (2 <= N)%nat -> (1 <= B < B')%nat -> (B' <= N)%nat -> 0 < variance N s ->
  average (fun b => average s b ^ 2) (batches B' (seq 0 N))
  < average (fun b => average s b ^ 2) (batches B (seq 0 N)).
(* end: T12_depends_on_B *)
Proof.
  intros HN HB HB' V. rewrite 2!T12_expectation by lia.
  assert (0 < INR B) by (apply lt_0_INR; lia). assert (INR B < INR B') by (apply lt_INR; lia).
  assert (INR B' <= INR N) by (apply le_INR; lia).
  assert (1 < INR N) by (apply (lt_INR 1); lia).
  apply Rplus_lt_compat_l.
  replace (variance N s / INR B' * ((INR N - INR B') / (INR N - 1)))
    with (variance N s / (INR N - 1) * (INR N / INR B' - 1)) by (field; lra).
  replace (variance N s / INR B * ((INR N - INR B) / (INR N - 1)))
    with (variance N s / (INR N - 1) * (INR N / INR B - 1)) by (field; lra).
  apply Rmult_lt_compat_l; [apply Rdiv_lt_0_compat; lra|]. apply Rplus_lt_compat_r.
  apply Rmult_lt_compat_l; [lra|]. apply Rinv_lt_contravar; nra.
Qed.

(* The squared sum does not: over all minibatches of any size the mean of mean_B s^2 is mean s^2. *)
(* begin: T12_squared_sum *)
Theorem T12_squared_sum (N B : nat) (s : nat -> R) :
  (1 <= B <= N)%nat ->
  average (average (fun i => s i ^ 2)) (batches B (seq 0 N))
    = mean N (fun i => s i ^ 2).
(* end: T12_squared_sum *)
Proof.
  intros HB. destruct (T12_batches B N) as [In_b _]. set (q := fun i => s i ^ 2).
  unfold average at 1. rewrite count, seq_length. rewrite (total_ext _ (fun b => / INR B * total q b)).
  2: { intros b Hb. unfold average. apply In_b in Hb. destruct Hb as (-> & _). unfold Rdiv. ring. }
  rewrite total_scal. destruct N as [|n]; [lia|]. destruct B as [|B]; [lia|].
  rewrite batches_first, seq_length, total_seq. cbn [pred].
  pose proof (absorb n B) as A. pose proof (choose_pos n B ltac:(lia)) as P.
  assert (N0 : INR (S n) <> 0) by (apply not_0_INR; lia). assert (B0 : INR (S B) <> 0) by (apply not_0_INR; lia).
  replace (choose (S n) (S B)) with (INR (S n) * choose n B / INR (S B)) by (rewrite <- A; field; easy).
  unfold mean. field. repeat split; try easy; lra.
Qed.
