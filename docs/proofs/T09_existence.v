(* T9. Existence of a minimiser. What is long here is that in finitely many dimensions a minimum exists at all. *)
From Coq Require Import Classical.
From Refrm Require Import Common T09.

(* ---- Minima over boxes ---- *)

Definition in_box (p : nat) (M : R) (v : nat -> R) : Prop := forall k, (k < p)%nat -> Rabs (v k) <= M.

(* f changes over the box by at most L times the sum of the changes of the coordinates *)
Definition lipschitz (p : nat) (M L : R) (f : (nat -> R) -> R) : Prop :=
  forall v v', in_box p M v -> in_box p M v' -> Rabs (f v - f v') <= L * sum p (fun k => Rabs (v k - v' k)).

Lemma in_box_put p M v y : in_box p M v -> Rabs y <= M -> in_box (S p) M (put v p y).
Proof.
  intros H Hy k Hk. unfold put. destruct (Nat.eqb_spec k p); [easy|]. apply H. lia.
Qed.

Ltac orders :=
  unfold Rmin; repeat match goal with |- context [Rle_dec ?a ?b] => destruct (Rle_dec a b) end;
  unfold Rmax; repeat match goal with |- context [Rle_dec ?a ?b] => destruct (Rle_dec a b) end;
  unfold Rabs; repeat match goal with |- context [Rcase_abs ?a] => destruct (Rcase_abs a) end; lra.

Lemma box_minimum p M L : 0 <= M -> 0 <= L -> forall f, lipschitz p M L f ->
  exists v, in_box p M v /\ forall v', in_box p M v' -> f v <= f v'.
Proof.
  intros HM HL. induction p as [|p IH]; intros f Hf.
  { exists (fun _ => 0). split; [intros k Hk; lia|]. intros v' Hv'.
    specialize (Hf (fun _ => 0) v' ltac:(intros k Hk; lia) Hv'). simpl in Hf. rewrite Rmult_0_r in Hf.
    apply Rabs_le_between in Hf. lra. }
  (* with the last coordinate fixed at y there is a minimum, of height g y *)
  assert (Fix : forall y, Rabs y <= M ->
    exists v, in_box p M v /\ forall v', in_box p M v' -> f (put v p y) <= f (put v' p y)).
  { intros y Hy. apply (IH (fun v => f (put v p y))). intros v v' Hv Hv'.
    apply (Rle_trans _ _ _ (Hf _ _ (in_box_put p M v y Hv Hy) (in_box_put p M v' y Hv' Hy))).
    apply Rmult_le_compat_l; [easy|]. simpl. rewrite 2!put_at, Rminus_diag_eq, Rabs_R0, Rplus_0_r by easy.
    right. apply sum_ext. intros k Hk. now rewrite 2!put_other by lia. }
  set (heights := fun y r => exists v, in_box p M v /\ r = f (put v p y)).
  set (g := fun y => real (Glb_Rbar (heights y))).
  assert (G : forall y, Rabs y <= M ->
    exists v, in_box p M v /\ g y = f (put v p y) /\ forall v', in_box p M v' -> g y <= f (put v' p y)).
  { intros y Hy. destruct (Fix y Hy) as (v & Hv & Hm).
    assert (E : g y = f (put v p y)).
    { unfold g. rewrite (is_glb_Rbar_unique (heights y) (f (put v p y))); [easy|]. split.
      - intros r (v' & Hv' & ->). now apply Hm.
      - intros b Hb. apply Hb. now exists v. }
    exists v. split; [easy|]. split; [easy|]. intros v' Hv'. rewrite E. now apply Hm. }
  assert (GL : forall y y', Rabs y <= M -> Rabs y' <= M -> g y - g y' <= L * Rabs (y - y')).
  { intros y y' Hy Hy'. destruct (G y Hy) as (v & _ & _ & Hm). destruct (G y' Hy') as (v' & Hv' & E & _).
    specialize (Hm v' Hv'). rewrite E.
    pose proof (Hf _ _ (in_box_put p M v' y Hv' Hy) (in_box_put p M v' y' Hv' Hy')) as B. simpl in B.
    rewrite 2!put_at, (sum_0 p), Rplus_0_l in B
      by (intros k Hk; rewrite 2!put_other, Rminus_diag_eq, Rabs_R0 by (try lia; easy); easy).
    apply Rabs_le_between in B. lra. }
  (* y, moved into the interval *)
  set (clamp := fun y => Rmax (- M) (Rmin M y)).
  assert (C : forall y, Rabs (clamp y) <= M).
  { intros y. apply Rabs_le. unfold clamp. orders. }
  assert (C' : forall y y', Rabs (clamp y - clamp y') <= Rabs (y - y')).
  { intros y y'. unfold clamp. orders. }
  destruct (continuity_ab_min (fun y => g (clamp y)) (- M) M) as (y & Hy & Hb); [lra| |].
  { intros x _ e He. exists (e / (L + 1)). split; [apply Rdiv_lt_0_compat; lra|].
    intros x' [_ Hx]. simpl in *. unfold R_dist in *.
    assert (B : Rabs (g (clamp x') - g (clamp x)) <= L * Rabs (x' - x)).
    { apply Rle_trans with (L * Rabs (clamp x' - clamp x)); [|now apply Rmult_le_compat_l].
      pose proof (GL _ _ (C x') (C x)). pose proof (GL _ _ (C x) (C x')). rewrite (Rabs_minus_sym (clamp x)) in H0.
      apply Rabs_le. lra. }
    apply (Rle_lt_trans _ _ _ B). apply Rle_lt_trans with ((L + 1) * Rabs (x' - x)).
    - pose proof (Rabs_pos (x' - x)). nra.
    - apply (Rmult_lt_compat_l (L + 1)) in Hx; [|lra].
      replace ((L + 1) * (e / (L + 1))) with e in Hx by (field; lra). easy. }
  assert (Id : forall y, Rabs y <= M -> clamp y = y).
  { intros x Hx. apply Rabs_le_between in Hx. unfold clamp. orders. }
  assert (Hy' : Rabs y <= M) by (apply Rabs_le; lra).
  destruct (G y Hy') as (v & Hv & E & _). exists (put v p y). split; [now apply in_box_put|].
  intros v' Hv'. assert (Hl : Rabs (v' p) <= M) by (apply Hv'; lia).
  destruct (G (v' p) Hl) as (_ & _ & _ & Hm).
  apply Rle_trans with (g (v' p)).
  - rewrite <- E. specialize (Hy (v' p)). rewrite 2!Id in Hy by easy. apply Hy. apply Rabs_le_between in Hl. lra.
  - specialize (Hm v' ltac:(intros k Hk; apply Hv'; lia)). apply (Rle_trans _ _ _ Hm). right.
    pose proof (Hf (put v' p (v' p)) v' ltac:(intros k Hk; rewrite put_same; now apply Hv') Hv') as B.
    rewrite (sum_0 (S p)) in B by (intros k Hk; rewrite put_same, Rminus_diag_eq, Rabs_R0 by easy; easy).
    rewrite Rmult_0_r in B. apply Rabs_le_between in B. lra.
Qed.

(* ---- What is Lipschitz ---- *)

Definition lip (p : nat) (M : R) (f : (nat -> R) -> R) : Prop := exists L, 0 <= L /\ lipschitz p M L f.

Lemma lip_const p M a : lip p M (fun _ => a).
Proof. exists 0. split; [lra|]. intros v v' _ _. rewrite Rminus_diag_eq, Rabs_R0 by easy. lra. Qed.

Lemma lip_coordinate p M k : (k < p)%nat -> lip p M (fun v => v k).
Proof.
  intros Hk. exists 1. split; [lra|]. intros v v' _ _. rewrite Rmult_1_l.
  apply (sum_term p (fun j => Rabs (v j - v' j))); [intros; apply Rabs_pos|easy].
Qed.

Lemma lip_plus p M f g : lip p M f -> lip p M g -> lip p M (fun v => f v + g v).
Proof.
  intros (L & HL & Hf) (L' & HL' & Hg). exists (L + L'). split; [lra|]. intros v v' Hv Hv'.
  specialize (Hf v v' Hv Hv'). specialize (Hg v v' Hv Hv').
  replace (f v + g v - (f v' + g v')) with ((f v - f v') + (g v - g v')) by ring.
  apply (Rle_trans _ _ _ (Rabs_triang _ _)). lra.
Qed.

Lemma lip_scal p M a f : lip p M f -> lip p M (fun v => a * f v).
Proof.
  intros (L & HL & Hf). exists (Rabs a * L). pose proof (Rabs_pos a). split; [nra|]. intros v v' Hv Hv'.
  specialize (Hf v v' Hv Hv'). replace (a * f v - a * f v') with (a * (f v - f v')) by ring.
  rewrite Rabs_mult, Rmult_assoc. now apply Rmult_le_compat_l.
Qed.

Lemma lip_ext p M f g : (forall v, f v = g v) -> lip p M f -> lip p M g.
Proof. intros E (L & HL & H). exists L. split; [easy|]. intros v v' Hv Hv'. rewrite <- 2!E. now apply H. Qed.

Lemma lip_sum p M N (f : nat -> (nat -> R) -> R) :
  (forall i, (i < N)%nat -> lip p M (f i)) -> lip p M (fun v => sum N (fun i => f i v)).
Proof.
  induction N as [|N IH]; intros H; simpl; [apply lip_const|].
  apply lip_plus; [apply IH; intros; apply H; lia|apply H; lia].
Qed.

(* after a function of slope at most 1 *)
Lemma lip_after p M phi f :
  (forall x y, Rabs (phi x - phi y) <= Rabs (x - y)) -> lip p M f -> lip p M (fun v => phi (f v)).
Proof.
  intros H (L & HL & Hf). exists L. split; [easy|]. intros v v' Hv Hv'. apply (Rle_trans _ _ _ (H _ _)). now apply Hf.
Qed.

Lemma lip_square p M f : 0 <= M -> lip p M f -> lip p M (fun v => f v ^ 2).
Proof.
  intros HM (L & HL & Hf). set (B := Rabs (f (fun _ => 0)) + L * sum p (fun _ => M)).
  assert (HB : forall v, in_box p M v -> Rabs (f v) <= B).
  { intros v Hv. specialize (Hf v (fun _ => 0) Hv). unfold B.
    assert (Z : in_box p M (fun _ => 0)) by (intros k _; rewrite Rabs_R0; lra). specialize (Hf Z).
    assert (S : sum p (fun k => Rabs (v k - 0)) <= sum p (fun _ => M))
      by (apply sum_le; intros k Hk; rewrite Rminus_0_r; now apply Hv).
    apply (Rmult_le_compat_l L) in S; [|easy].
    pose proof (Rabs_triang (f v - f (fun _ => 0)) (f (fun _ => 0))) as T.
    replace (f v - f (fun _ => 0) + f (fun _ => 0)) with (f v) in T by ring. lra. }
  assert (B0 : 0 <= B).
  { unfold B. pose proof (Rabs_pos (f (fun _ => 0))). assert (0 <= sum p (fun _ => M)) by (now apply sum_ge_0). nra. }
  exists (2 * B * L). split; [nra|]. intros v v' Hv Hv'.
  replace (f v ^ 2 - f v' ^ 2) with ((f v + f v') * (f v - f v')) by ring. rewrite Rabs_mult.
  specialize (Hf v v' Hv Hv'). pose proof (HB v Hv). pose proof (HB v' Hv'). pose proof (Rabs_triang (f v) (f v')).
  rewrite Rmult_assoc. apply Rmult_le_compat; try apply Rabs_pos; lra.
Qed.

Lemma lip_score p M x : lip p M (fun v => score p v x).
Proof.
  apply lip_sum. intros k Hk. apply (lip_ext p M (fun v => x k * v k)); [intros; ring|].
  now apply lip_scal, lip_coordinate.
Qed.

Lemma lip_D p M x_w x_l i : lip p M (fun v => Dv p x_w x_l v i).
Proof.
  apply (lip_ext p M (fun v => score p v (x_w i) + -1 * score p v (x_l i))); [intros; unfold Dv; ring|].
  apply lip_plus; [|apply lip_scal]; apply lip_score.
Qed.

Lemma lip_S p M x_w x_l i : lip p M (fun v => Sv p x_w x_l v i).
Proof. apply lip_plus; apply lip_score. Qed.

Lemma lip_linear N p lambda eps m x_w x_l M : 0 <= M -> 0 <= eps <= 1 -> lip p M (linear N lambda eps m p x_w x_l).
Proof.
  intros HM He. unfold linear, objective, loss, penalty, mean. apply lip_plus; [|apply lip_scal].
  - apply (lip_ext p M (fun v => / INR N * sum N (fun i => pair_loss eps (Dv p x_w x_l v i + - m i))));
      [intros; unfold Dv, Rdiv, Rminus; ring|].
    apply lip_scal, lip_sum. intros i _. apply (lip_after p M (pair_loss eps)).
    + intros x y. replace x with (y + (x - y)) at 1 by ring. now apply pair_loss_lipschitz.
    + apply lip_plus; [apply lip_D|apply lip_const].
  - apply (lip_ext p M (fun v => / INR N * sum N (fun i => Sv p x_w x_l v i ^ 2)));
      [intros; unfold Sv, Rdiv; ring|].
    apply lip_scal, lip_sum. intros i _. apply lip_square; [easy|apply lip_S].
Qed.

(* ---- Growth ---- *)

(* how fast J grows along v in the end: where it is 0, no d falls (nor rises, if eps > 0) and (lambda > 0) no s moves *)
Definition bend (eps x : R) : R := (1 - eps) * Rmax 0 (- x) + eps * Rmax 0 x.

Definition growth N lambda eps p x_w x_l v : R :=
  sum N (fun i => bend eps (Dv p x_w x_l v i))
  + (if Rlt_dec 0 lambda then 1 else 0) * sum N (fun i => Rabs (Sv p x_w x_l v i)).

Lemma bend_pos eps x : 0 <= eps <= 1 -> 0 <= bend eps x.
Proof. intros He. unfold bend. pose proof (Rmax_l 0 (- x)). pose proof (Rmax_l 0 x). nra. Qed.

Lemma growth_parts N eps p x_w x_l v : 0 <= eps <= 1 ->
  0 <= sum N (fun i => bend eps (Dv p x_w x_l v i)) /\ 0 <= sum N (fun i => Rabs (Sv p x_w x_l v i)).
Proof. intros He. split; apply sum_ge_0; intros; [now apply bend_pos|apply Rabs_pos]. Qed.

Lemma growth_pos N lambda eps p x_w x_l v : 0 <= eps <= 1 -> 0 <= growth N lambda eps p x_w x_l v.
Proof.
  intros He. destruct (growth_parts N eps p x_w x_l v He). unfold growth. destruct (Rlt_dec 0 lambda); lra.
Qed.

Lemma growth_scal N lambda eps p x_w x_l v a : 0 <= a ->
  growth N lambda eps p x_w x_l (fun k => a * v k) = a * growth N lambda eps p x_w x_l v.
Proof.
  intros Ha. assert (Sc : forall x, score p (fun k => a * v k) x = a * score p v x)
    by (intros; unfold score; rewrite <- sum_scal; apply sum_ext; intros; ring).
  assert (D : sum N (fun i => bend eps (Dv p x_w x_l (fun k => a * v k) i))
    = a * sum N (fun i => bend eps (Dv p x_w x_l v i))).
  { rewrite <- sum_scal. apply sum_ext. intros i _. unfold Dv. rewrite 2!Sc.
    set (w := score p v (x_w i)). set (l := score p v (x_l i)). unfold bend.
    replace (a * w - a * l) with (a * (w - l)) by ring. replace (- (a * (w - l))) with (a * - (w - l)) by ring.
    assert (M : forall x, Rmax 0 (a * x) = a * Rmax 0 x)
      by (intros x; rewrite <- RmaxRmult by easy; f_equal; ring).
    rewrite 2!M. ring. }
  assert (S : sum N (fun i => Rabs (Sv p x_w x_l (fun k => a * v k) i)) = a * sum N (fun i => Rabs (Sv p x_w x_l v i))).
  { rewrite <- sum_scal. apply sum_ext. intros i _. unfold Sv.
    rewrite 2!Sc, <- Rmult_plus_distr_l, Rabs_mult. now rewrite (Rabs_pos_eq a). }
  unfold growth. rewrite D, S. ring.
Qed.

Lemma lip_growth N lambda eps p x_w x_l M : lip p M (growth N lambda eps p x_w x_l).
Proof.
  apply lip_plus; [|apply lip_scal]; apply lip_sum; intros i _.
  - apply lip_plus; apply lip_scal.
    + apply (lip_after p M (fun x => Rmax 0 (- x))); [|apply lip_D].
      intros x y. unfold Rmax, Rabs. destruct (Rle_dec 0 (- x)), (Rle_dec 0 (- y)); repeat destruct Rcase_abs; lra.
    + apply (lip_after p M (Rmax 0)); [|apply lip_D].
      intros x y. unfold Rmax, Rabs. destruct (Rle_dec 0 x), (Rle_dec 0 y); repeat destruct Rcase_abs; lra.
  - apply (lip_after p M Rabs); [apply Rabs_triang_inv2|apply lip_S].
Qed.

Lemma max_coordinate p (v : nat -> R) : (0 < p)%nat ->
  exists k, (k < p)%nat /\ forall j, (j < p)%nat -> Rabs (v j) <= Rabs (v k).
Proof.
  induction p as [|p IH]; [lia|]. intros _. destruct p as [|p].
  - exists 0%nat. split; [lia|]. intros j Hj. replace j with 0%nat by lia. lra.
  - destruct IH as (k & Hk & H); [lia|]. destruct (Rle_lt_dec (Rabs (v (S p))) (Rabs (v k))) as [L|L].
    + exists k. split; [lia|]. intros j Hj. destruct (Nat.eq_dec j (S p)) as [->|]; [easy|apply H; lia].
    + exists (S p). split; [lia|]. intros j Hj. destruct (Nat.eq_dec j (S p)) as [->|]; [lra|].
      specialize (H j ltac:(lia)). lra.
Qed.

(* Where 0 only is unseen and (eps = 0) no direction is endless, J grows with the largest weight. *)
Lemma growth_coercive N lambda eps p x_w x_l : 0 <= eps < 1 ->
  (forall v, unseen N lambda p x_w x_l v ->
    forall k, (k < p)%nat -> v k = 0) ->
  (eps = 0 -> ~ exists v, endless N lambda p x_w x_l v) ->
  exists c, 0 < c /\ forall v k, (k < p)%nat -> (forall j, (j < p)%nat -> Rabs (v j) <= Rabs (v k)) ->
    c * Rabs (v k) <= growth N lambda eps p x_w x_l v.
Proof.
  intros He Ker NoEnd. assert (He' : 0 <= eps <= 1) by lra.
  assert (Zero : forall v, growth N lambda eps p x_w x_l v = 0 -> forall k, (k < p)%nat -> v k = 0).
  { intros v G. destruct (growth_parts N eps p x_w x_l v He') as [P Q]. unfold growth in G.
    assert (Bend : forall i, (i < N)%nat -> bend eps (Dv p x_w x_l v i) = 0).
    { apply sum_eq_0; [intros; now apply bend_pos|]. destruct (Rlt_dec 0 lambda); lra. }
    assert (D : forall i, (i < N)%nat -> 0 <= Dv p x_w x_l v i /\ (0 < eps -> Dv p x_w x_l v i <= 0)).
    { intros i Hi. specialize (Bend i Hi). unfold bend in Bend.
      pose proof (Rmax_l 0 (- Dv p x_w x_l v i)). pose proof (Rmax_r 0 (- Dv p x_w x_l v i)).
      pose proof (Rmax_l 0 (Dv p x_w x_l v i)). pose proof (Rmax_r 0 (Dv p x_w x_l v i)). split; [|intros]; nra. }
    assert (S : 0 < lambda -> forall i, (i < N)%nat -> Sv p x_w x_l v i = 0).
    { intros Hl i Hi. assert (Z : sum N (fun i => Rabs (Sv p x_w x_l v i)) = 0) by (destruct (Rlt_dec 0 lambda); lra).
      pose proof (sum_eq_0 N _ (fun i _ => Rabs_pos _) Z i Hi) as E. cbv beta in E.
      destruct (Req_dec (Sv p x_w x_l v i) 0) as [|Hn]; [easy|]. now apply Rabs_no_R0 in Hn. }
    apply Ker. intros i Hi. split; [|intros; now apply S].
    destruct (Rle_lt_or_eq_dec 0 eps (proj1 He)) as [Hp|E0].
    { destruct (D i Hi) as [D1 D2]. specialize (D2 Hp). lra. }
    destruct (Req_dec (Dv p x_w x_l v i) 0) as [|Hn]; [easy|]. exfalso. apply NoEnd; [easy|]. exists v.
    split; [intros; now apply D|]. split; [now exists i|easy]. }
  (* for each k the least growth over the box where |v k| = 1 *)
  assert (Face : forall k, (k < p)%nat -> exists c, 0 < c /\
    forall v, in_box p 1 v -> Rabs (v k) = 1 -> c <= growth N lambda eps p x_w x_l v).
  { intros k Hk. set (f := fun v => growth N lambda eps p x_w x_l v + Rabs (1 - Rabs (v k))).
    assert (Lf : lip p 1 f).
    { apply lip_plus; [apply lip_growth|].
      apply (lip_after p 1 (fun x => Rabs (1 - Rabs x))); [|now apply lip_coordinate].
      intros x y. apply (Rle_trans _ _ _ (Rabs_triang_inv2 _ _)).
      replace (1 - Rabs x - (1 - Rabs y)) with (- (Rabs x - Rabs y)) by ring. rewrite Rabs_Ropp.
      apply Rabs_triang_inv2. }
    destruct Lf as (L & HL & Lf). destruct (box_minimum p 1 L ltac:(lra) HL f Lf) as (v & Hv & Hm).
    pose proof (growth_pos N lambda eps p x_w x_l v He') as G0. pose proof (Rabs_pos (1 - Rabs (v k))) as A0.
    exists (f v). split.
    - destruct (Rle_lt_or_eq_dec 0 (f v) ltac:(unfold f; lra)) as [|E]; [easy|exfalso]. unfold f in E.
      rewrite (Zero v ltac:(lra) k Hk), Rabs_R0, Rminus_0_r, Rabs_R1 in E. lra.
    - intros v' Hv' E. specialize (Hm v' Hv'). unfold f at 2 in Hm.
      rewrite E, Rminus_diag_eq, Rabs_R0 in Hm by easy. lra. }
  assert (All : forall n, (n <= p)%nat -> exists c, 0 < c /\ forall k, (k < n)%nat ->
    forall v, in_box p 1 v -> Rabs (v k) = 1 -> c <= growth N lambda eps p x_w x_l v).
  { induction n as [|n IH]; intros Hn; [exists 1; split; [lra|intros; lia]|].
    destruct IH as (c & Hc & H); [lia|]. destruct (Face n Hn) as (c' & Hc' & H').
    exists (Rmin c c'). split; [now apply Rmin_pos|]. intros k Hk v Hv E.
    destruct (Nat.eq_dec k n) as [->|].
    - apply (Rle_trans _ _ _ (Rmin_r _ _)). now apply H'.
    - apply (Rle_trans _ _ _ (Rmin_l _ _)). apply (H k); [lia|easy|easy]. }
  destruct (All p (le_n p)) as (c & Hc & H). exists c. split; [easy|]. intros v k Hk Hm.
  destruct (Req_dec (v k) 0) as [E|Hn]; [rewrite E, Rabs_R0, Rmult_0_r; now apply growth_pos|].
  set (a := Rabs (v k)). assert (Ha : 0 < a) by now apply Rabs_pos_lt.
  set (u := fun j => / a * v j).
  assert (Hu : c <= growth N lambda eps p x_w x_l u).
  { assert (Ia : 0 < / a) by now apply Rinv_0_lt_compat. apply (H k Hk).
    - intros j Hj. unfold u. rewrite Rabs_mult, (Rabs_pos_eq (/ a)) by lra.
      apply (Rmult_le_reg_l a); [easy|]. rewrite <- Rmult_assoc, Rinv_r by lra. specialize (Hm j Hj). unfold a. lra.
    - unfold u. rewrite Rabs_mult, (Rabs_pos_eq (/ a)) by lra. fold a. field. lra. }
  unfold u in Hu. rewrite growth_scal in Hu by (left; now apply Rinv_0_lt_compat).
  apply (Rmult_le_compat_l a) in Hu; [|lra]. rewrite <- Rmult_assoc, Rinv_r in Hu by lra. lra.
Qed.

Lemma softplus_ge x : Rmax 0 x <= softplus x.
Proof.
  apply Rmax_lub; [left; apply softplus_pos|]. unfold softplus. rewrite <- (ln_exp x) at 1.
  pose proof (exp_pos x). left. apply ln_increasing; lra.
Qed.

Lemma linear_growth N p lambda eps m x_w x_l : (0 < N)%nat -> 0 <= lambda -> 0 <= eps <= 1 ->
  exists K, forall v, growth N lambda eps p x_w x_l v / INR N - K <= linear N lambda eps m p x_w x_l v.
Proof.
  intros HN Hl He. pose proof (pairs_pos N HN) as Np.
  exists (mean N (fun i => Rabs (m i)) + (if Rlt_dec 0 lambda then 1 / (4 * lambda) else 0)). intros v.
  assert (A : mean N (fun i => bend eps (Dv p x_w x_l v i)) - mean N (fun i => Rabs (m i))
    <= loss N eps m (fun i => score p v (x_w i)) (fun i => score p v (x_l i))).
  { rewrite <- mean_minus. apply mean_le; [easy|]. intros i _. fold (Dv p x_w x_l v i).
    set (d := Dv p x_w x_l v i). unfold pair_loss, bend.
    pose proof (softplus_ge (- (d - m i))) as A1. pose proof (softplus_ge (d - m i)) as A2.
    assert (B1 : Rmax 0 (- d) - Rabs (m i) <= Rmax 0 (- (d - m i))) by
      (unfold Rmax, Rabs; destruct (Rle_dec 0 (- d)), (Rle_dec 0 (- (d - m i))), (Rcase_abs (m i)); lra).
    assert (B2 : Rmax 0 d - Rabs (m i) <= Rmax 0 (d - m i)) by
      (unfold Rmax, Rabs; destruct (Rle_dec 0 d), (Rle_dec 0 (d - m i)), (Rcase_abs (m i)); lra).
    nra. }
  unfold linear, objective, growth. unfold mean at 1 in A.
  destruct (Rlt_dec 0 lambda) as [Hp|].
  - assert (B : mean N (fun i => Rabs (Sv p x_w x_l v i)) - 1 / (4 * lambda)
      <= lambda * penalty N (fun i => score p v (x_w i)) (fun i => score p v (x_l i))).
    { unfold penalty. rewrite <- (mean_const N (1 / (4 * lambda)) HN), <- mean_minus, <- mean_scal.
      apply mean_le; [easy|]. intros i _. fold (Sv p x_w x_l v i). rewrite <- (pow2_abs (Sv p x_w x_l v i)).
      set (s := Rabs (Sv p x_w x_l v i)). apply (Rmult_le_reg_l (4 * lambda)); [lra|].
      replace (4 * lambda * (s - 1 / (4 * lambda))) with (4 * lambda * s - 1) by (field; lra).
      pose proof (pow2_ge_0 (2 * lambda * s - 1)). nra. }
    unfold mean at 1 in B. unfold Rdiv in *. lra.
  - assert (0 <= lambda * penalty N (fun i => score p v (x_w i)) (fun i => score p v (x_l i))).
    { apply Rmult_le_pos; [easy|]. apply mean_ge_0; [easy|]. intros. apply pow2_ge_0. }
    unfold Rdiv in *. lra.
Qed.

Lemma minimiser_trivial_kernel N p lambda eps m x_w x_l : (0 < N)%nat -> 0 <= lambda -> 0 <= eps < 1 ->
  (forall v, unseen N lambda p x_w x_l v ->
    forall k, (k < p)%nat -> v k = 0) ->
  (eps = 0 -> ~ exists v, endless N lambda p x_w x_l v) ->
  exists v, forall v', linear N lambda eps m p x_w x_l v <= linear N lambda eps m p x_w x_l v'.
Proof.
  intros HN Hl He Ker NoEnd. assert (He' : 0 <= eps <= 1) by lra. pose proof (pairs_pos N HN) as Np.
  set (J := linear N lambda eps m p x_w x_l). set (zero := fun _ : nat => 0).
  destruct (growth_coercive N lambda eps p x_w x_l He Ker NoEnd) as (c & Hc & Coe).
  destruct (linear_growth N p lambda eps m x_w x_l HN Hl He') as (K & HK). fold J in HK.
  set (M := Rabs (INR N * (J zero + K) / c)). assert (HM : 0 <= M) by apply Rabs_pos.
  destruct (lip_linear N p lambda eps m x_w x_l M HM He') as (L & HL & Lf).
  destruct (box_minimum p M L HM HL J Lf) as (v & _ & Hm). exists v. intros v'. fold J.
  destruct p as [|p]; [apply Hm; intros k Hk; lia|].
  destruct (max_coordinate (S p) v' ltac:(lia)) as (k & Hk & Big).
  destruct (Rle_lt_dec (Rabs (v' k)) M) as [In|Out].
  - apply Hm. intros j Hj. specialize (Big j Hj). lra.
  - apply Rle_trans with (J zero); [apply Hm; intros j _; unfold zero; rewrite Rabs_R0; easy|].
    specialize (Coe v' k Hk Big). specialize (HK v').
    assert (A : INR N * (J zero + K) / c < Rabs (v' k))
      by (pose proof (Rle_abs (INR N * (J zero + K) / c)); fold M in H; lra).
    apply (Rmult_lt_compat_l c) in A; [|easy].
    replace (c * (INR N * (J zero + K) / c)) with (INR N * (J zero + K)) in A by (field; lra).
    assert (B : J zero + K < growth N lambda eps (S p) x_w x_l v' / INR N).
    { apply (Rmult_lt_reg_l (INR N)); [easy|].
      replace (INR N * (growth N lambda eps (S p) x_w x_l v' / INR N)) with (growth N lambda eps (S p) x_w x_l v')
        by (field; lra).
      lra. }
    lra.
Qed.

(* ---- Weights that are not needed ---- *)

(* the indices but k, and the weights with 0 filled in at k *)
Definition skip (k j : nat) : nat := if Nat.ltb j k then j else S j.
Definition fill (k : nat) (v : nat -> R) (j : nat) : R :=
  if Nat.eqb j k then 0 else v (if Nat.ltb j k then j else pred j).

Lemma fill_skip k v j : fill k v (skip k j) = v j.
Proof.
  unfold fill, skip. destruct (Nat.ltb_spec j k).
  - rewrite (proj2 (Nat.eqb_neq j k)), (proj2 (Nat.ltb_lt j k)) by lia. easy.
  - rewrite (proj2 (Nat.eqb_neq (S j) k)), (proj2 (Nat.ltb_ge (S j) k)) by lia. easy.
Qed.

Lemma sum_skip p k f : (k <= p)%nat -> sum (S p) f = f k + sum p (fun j => f (skip k j)).
Proof.
  induction p as [|p IH]; intros Hk.
  - replace k with 0%nat by lia. simpl. ring.
  - destruct (Nat.eq_dec k (S p)) as [->|].
    + change (sum (S (S p)) f) with (sum (S p) f + f (S p)). rewrite Rplus_comm. f_equal.
      apply sum_ext. intros j Hj. unfold skip. now rewrite (proj2 (Nat.ltb_lt j (S p))).
    + change (sum (S (S p)) f) with (sum (S p) f + f (S p)). rewrite IH by lia.
      change (sum (S p) (fun j => f (skip k j))) with (sum p (fun j => f (skip k j)) + f (skip k p)).
      replace (skip k p) with (S p); [ring|]. unfold skip. now rewrite (proj2 (Nat.ltb_ge p k)) by lia.
Qed.

Lemma score_fill p k v x : (k <= p)%nat -> score (S p) (fill k v) x = score p v (fun j => x (skip k j)).
Proof.
  intros Hk. unfold score. rewrite (sum_skip p k) by easy.
  replace (fill k v k) with 0 by (unfold fill; now rewrite Nat.eqb_refl).
  rewrite Rmult_0_l, Rplus_0_l. apply sum_ext. intros j _. now rewrite fill_skip.
Qed.

Lemma minimiser N lambda eps m : (0 < N)%nat -> 0 <= lambda -> 0 <= eps < 1 -> forall p x_w x_l,
  (eps = 0 -> ~ exists v, endless N lambda p x_w x_l v) ->
  exists v, forall v', linear N lambda eps m p x_w x_l v <= linear N lambda eps m p x_w x_l v'.
Proof.
  intros HN Hl He p. induction p as [|p IH]; intros x_w x_l NoEnd.
  { now apply minimiser_trivial_kernel. }
  destruct (classic (forall v, unseen N lambda (S p) x_w x_l v -> forall k, (k < S p)%nat -> v k = 0)) as [Ker|Ker].
  { now apply minimiser_trivial_kernel. }
  (* a direction u that J does not see makes weight k superfluous *)
  apply not_all_ex_not in Ker. destruct Ker as (u & Ker). apply imply_to_and in Ker. destruct Ker as [Hu Ker].
  apply not_all_ex_not in Ker. destruct Ker as (k & Ker). apply imply_to_and in Ker. destruct Ker as [Hk Hne].
  assert (Hk' : (k <= p)%nat) by lia.
  set (y_w := fun i j => x_w i (skip k j)). set (y_l := fun i j => x_l i (skip k j)).
  assert (Same : forall v, linear N lambda eps m (S p) x_w x_l (fill k v) = linear N lambda eps m p y_w y_l v).
  { intros v. unfold linear, objective, loss, penalty.
    f_equal; [|f_equal]; apply mean_ext; intros i _; now rewrite 2!score_fill. }
  destruct (IH y_w y_l) as (v & Hv).
  { intros E0 (v & D & (i & Hi & Dn) & S'). apply NoEnd; [easy|]. exists (fill k v). unfold endless, Dv, Sv in *.
    split; [|split].
    - intros j Hj. rewrite 2!score_fill by easy. now apply D.
    - exists i. rewrite 2!score_fill by easy. easy.
    - intros Hp j Hj. rewrite 2!score_fill by easy. now apply S'. }
  exists (fill k v). intros v'. rewrite Same.
  set (t := fun j => v' j - v' k / u k * u j).
  assert (E : linear N lambda eps m (S p) x_w x_l v' = linear N lambda eps m (S p) x_w x_l t).
  { apply linear_kernel; [easy|]. intros i Hi. destruct (Hu i Hi) as [D S'].
    assert (Sc : forall x, score (S p) (fun j => v' j - t j) x = v' k / u k * score (S p) u x).
    { intros x. unfold score. rewrite <- sum_scal. apply sum_ext. intros. unfold t. ring. }
    unfold Dv, Sv in *. rewrite 2!Sc. split; [|intros Hp; specialize (S' Hp)]; nra. }
  assert (F : linear N lambda eps m (S p) x_w x_l t
    = linear N lambda eps m (S p) x_w x_l (fill k (fun j => t (skip k j)))).
  { assert (Pt : forall j, t j = fill k (fun j => t (skip k j)) j).
    { intros j. unfold fill. destruct (Nat.eqb_spec j k) as [->|]; [unfold t; field; easy|].
      unfold skip. destruct (Nat.ltb_spec j k).
      - now rewrite (proj2 (Nat.ltb_lt j k)).
      - rewrite (proj2 (Nat.ltb_ge (pred j) k)) by lia. f_equal. lia. }
    unfold linear, objective, loss, penalty. f_equal; [|f_equal]; apply mean_ext; intros i _;
      rewrite 2!(score_ext (S p) t _ _ (fun j _ => Pt j)); easy. }
  rewrite E, F, Same. apply Hv.
Qed.

(* A minimiser exists iff no v has D v >= 0, D v <> 0 and (lambda > 0 implies S v = 0). *)
(* begin: T9_existence *)
Theorem T9_existence (N p : nat) (lambda : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) :
  (0 < N)%nat -> 0 <= lambda ->
  let J := linear N lambda 0 m p x_w x_l in
  (exists theta, forall theta', J theta <= J theta') <->
  ~ (exists v, endless N lambda p x_w x_l v).
(* end: T9_existence *)
Proof.
  intros HN Hl J. split; [|intros H; apply minimiser; try easy; lra].
  intros (theta & H) (v & E).
  pose proof (T9_endless N p lambda m x_w x_l v Hl E theta 0 1 ltac:(lra)) as L. cbv zeta in L.
  specialize (H (fun k => theta k + 1 * v k)). unfold J in H.
  assert (Z : linear N lambda 0 m p x_w x_l (fun k => theta k + 0 * v k) = linear N lambda 0 m p x_w x_l theta).
  { unfold linear, objective, loss, penalty. f_equal; [|f_equal]; apply mean_ext; intros i _;
      rewrite 2!(score_ext p (fun k => theta k + 0 * v k) theta) by (intros; ring); easy. }
  rewrite Z in L. lra.
Qed.

(* With smoothed labels a minimiser always exists. *)
(* begin: T9_existence_smoothed *)
Theorem T9_existence_smoothed (N p : nat) (lambda eps : R) (m : nat -> R)
    (x_w x_l : nat -> nat -> R) :
  (0 < N)%nat -> 0 <= lambda -> 0 < eps < 1 ->
  let J := linear N lambda eps m p x_w x_l in
  exists theta, forall theta', J theta <= J theta'.
(* end: T9_existence_smoothed *)
Proof. intros HN Hl He J. apply minimiser; [easy|easy|lra|]. intros E. lra. Qed.
