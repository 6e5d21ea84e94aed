(* T13. What a shift costs in floating point. *)
From Refrm Require Import Common.
From Coq Require Import ZArith.

(* Numbers with p significant bits: k 2^e, |k| < 2^p. The exponent e is any integer, so nothing over- or underflows.
   p is 8 in bfloat16, 24 in float32, 53 in float64. *)
(* begin: formats *)
Definition representable (p : nat) (x : R) : Prop :=
  exists k e : Z, (Z.abs k < 2 ^ Z.of_nat p)%Z /\ x = IZR k * powerRZ 2 e.

(* fl x is a number with p bits, and none is nearer to x *)
Definition rounds_to_nearest (p : nat) (fl : R -> R) : Prop :=
  forall x, representable p (fl x) /\
  forall y, representable p y -> Rabs (fl x - x) <= Rabs (y - x).
(* end: formats *)

Lemma two_pos e : 0 < powerRZ 2 e.
Proof. apply powerRZ_lt. lra. Qed.

Lemma two_add e e' : powerRZ 2 (e + e') = powerRZ 2 e * powerRZ 2 e'.
Proof. apply powerRZ_add. lra. Qed.

Lemma two_int e : (0 <= e)%Z -> powerRZ 2 e = IZR (2 ^ e).
Proof.
  intros He. rewrite <- (Z2Nat.id e) by easy. rewrite <- pow_powerRZ, <- (pow_IZR 2). easy.
Qed.

Lemma two_le e e' : (e <= e')%Z -> powerRZ 2 e <= powerRZ 2 e'.
Proof.
  intros H. replace e' with (e + (e' - e))%Z by ring. rewrite two_add, (two_int (e' - e)) by lia.
  assert (1 <= IZR (2 ^ (e' - e))) by (apply IZR_le; pose proof (Z.pow_pos_nonneg 2 (e' - e)); lia).
  pose proof (two_pos e). nra.
Qed.

Lemma binade a : 0 < a ->
  let z := (up (ln a / ln 2) - 1)%Z in powerRZ 2 z <= a < powerRZ 2 (z + 1).
Proof.
  intros Ha z. destruct (archimed (ln a / ln 2)) as [H1 H2].
  assert (L2 : 0 < ln 2) by (rewrite <- ln_1; apply ln_increasing; lra).
  assert (Z1 : IZR z = IZR (up (ln a / ln 2)) - 1) by (unfold z; apply minus_IZR).
  assert (E : a = exp (ln a / ln 2 * ln 2)) by (rewrite <- (exp_ln a Ha) at 1; f_equal; field; lra).
  rewrite 2!powerRZ_Rpower by lra. unfold Rpower. rewrite plus_IZR, Z1. split.
  - rewrite E at 2. destruct (Rle_lt_or_eq_dec ((IZR (up (ln a / ln 2)) - 1) * ln 2) (ln a / ln 2 * ln 2)) as [X|X].
    + apply Rmult_le_compat_r; lra.
    + left. now apply exp_increasing.
    + right. now f_equal.
  - rewrite E at 1. apply exp_increasing, Rmult_lt_compat_r; lra.
Qed.

(* a rounding: x to the nearest multiple of the spacing of its binade *)
Definition spacing (p : nat) (x : R) : Z := (up (ln (Rabs x) / ln 2) - Z.of_nat p)%Z.

Definition round (p : nat) (x : R) : R :=
  if Req_EM_T x 0 then 0 else IZR (up (x / powerRZ 2 (spacing p x) - 1 / 2)) * powerRZ 2 (spacing p x).

Lemma spacing_binade p x : (1 <= p)%nat -> x <> 0 ->
  IZR (2 ^ (Z.of_nat p - 1)) * powerRZ 2 (spacing p x) <= Rabs x < IZR (2 ^ Z.of_nat p) * powerRZ 2 (spacing p x).
Proof.
  intros Hp Hx. pose proof (binade (Rabs x) (Rabs_pos_lt x Hx)) as B. cbv zeta in B.
  rewrite <- 2!two_int, <- 2!two_add by lia. unfold spacing.
  replace (Z.of_nat p - 1 + (up (ln (Rabs x) / ln 2) - Z.of_nat p))%Z with (up (ln (Rabs x) / ln 2) - 1)%Z by ring.
  replace (Z.of_nat p + (up (ln (Rabs x) / ln 2) - Z.of_nat p))%Z with (up (ln (Rabs x) / ln 2) - 1 + 1)%Z by ring.
  easy.
Qed.

(* it is off by half the spacing at most, and no multiple of the spacing is nearer *)
Lemma round_error p x : x <> 0 ->
  let q := powerRZ 2 (spacing p x) in
  Rabs (round p x - x) <= q / 2 /\ forall k, Rabs (round p x - x) <= Rabs (IZR k * q - x).
Proof.
  intros Hx q. assert (Hq : 0 < q) by apply two_pos. unfold round. destruct (Req_EM_T x 0) as [|_]; [easy|]. fold q.
  set (n := up (x / q - 1 / 2)). destruct (archimed (x / q - 1 / 2)) as [H1 H2]. fold n in H1, H2.
  assert (Half : Rabs (IZR n - x / q) <= 1 / 2) by (apply Rabs_le; lra).
  assert (Scale : forall k, Rabs (IZR k * q - x) = Rabs (IZR k - x / q) * q).
  { intros k. rewrite <- (Rabs_pos_eq q) at 3 by lra. rewrite <- Rabs_mult. f_equal. field. lra. }
  split; [rewrite Scale; nra|]. intros k. rewrite 2!Scale. apply Rmult_le_compat_r; [lra|].
  destruct (Z.eq_dec k n) as [->|Hk]; [lra|].
  assert (D : 1 <= Rabs (IZR k - IZR n)) by (rewrite <- minus_IZR, <- abs_IZR; apply IZR_le; lia).
  pose proof (Rabs_triang (IZR k - x / q) (x / q - IZR n)) as T.
  replace (IZR k - x / q + (x / q - IZR n)) with (IZR k - IZR n) in T by ring.
  rewrite (Rabs_minus_sym (x / q)) in T. lra.
Qed.

Lemma round_representable p x : (1 <= p)%nat -> representable p (round p x).
Proof.
  intros Hp. destruct (Req_EM_T x 0) as [E|Hx].
  { exists 0%Z, 0%Z. split; [simpl; pose proof (Z.pow_pos_nonneg 2 (Z.of_nat p)); lia|].
    unfold round. destruct (Req_EM_T x 0); [ring|easy]. }
  pose proof (spacing_binade p x Hp Hx) as [_ B]. pose proof (round_error p x Hx) as [R _]. cbv zeta in R.
  pose proof (two_pos (spacing p x)) as Hq.
  unfold round in *. destruct (Req_EM_T x 0) as [|_]; [easy|].
  set (q := powerRZ 2 (spacing p x)) in *. set (k := up (x / q - 1 / 2)) in *.
  assert (K : (Z.abs k <= 2 ^ Z.of_nat p)%Z).
  { apply Z.lt_succ_r, lt_IZR. rewrite succ_IZR, abs_IZR. apply (Rmult_lt_reg_r q); [easy|].
    rewrite <- (Rabs_pos_eq q) at 1 by lra. rewrite <- Rabs_mult.
    pose proof (Rabs_triang (IZR k * q - x) x) as T. replace (IZR k * q - x + x) with (IZR k * q) in T by ring. nra. }
  destruct (Z.eq_dec (Z.abs k) (2 ^ Z.of_nat p)) as [E|]; [|exists k, (spacing p x); split; [lia|easy]].
  (* the next power of two *)
  exists (Z.sgn k * 2 ^ (Z.of_nat p - 1))%Z, (spacing p x + 1)%Z.
  assert (P2 : (2 ^ Z.of_nat p = 2 * 2 ^ (Z.of_nat p - 1))%Z)
    by (rewrite <- Z.pow_succ_r by lia; f_equal; lia).
  assert (0 < 2 ^ (Z.of_nat p - 1))%Z by (apply Z.pow_pos_nonneg; lia). split.
  - rewrite Z.abs_mul. destruct k; simpl Z.sgn; simpl Z.abs at 1; lia.
  - rewrite two_add. fold q. replace (powerRZ 2 1) with 2 by (simpl; ring).
    rewrite <- (Z.abs_sgn k) at 1. rewrite E, P2, 3!mult_IZR. ring.
Qed.

(* Such roundings exist for every p. *)
(* begin: T13_rounding_exists *)
Theorem T13_rounding_exists (p : nat) :
  (1 <= p)%nat -> exists fl, rounds_to_nearest p fl.
(* end: T13_rounding_exists *)
Proof.
  intros Hp. exists (round p). intros x. split; [now apply round_representable|].
  intros y (k & e & Hk & ->). destruct (Req_EM_T x 0) as [E|Hx].
  { unfold round. destruct (Req_EM_T x 0); [|easy]. rewrite E, Rminus_0_r, Rabs_R0. apply Rabs_pos. }
  pose proof (spacing_binade p x Hp Hx) as [B _]. pose proof (round_error p x Hx) as [_ R]. cbv zeta in R.
  set (q := powerRZ 2 (spacing p x)) in *. assert (Hq : 0 < q) by apply two_pos.
  destruct (Z.le_gt_cases (spacing p x) e) as [He|He].
  - (* y is a multiple of the spacing *)
    replace (IZR k * powerRZ 2 e) with (IZR (k * 2 ^ (e - spacing p x)) * q); [apply R|].
    rewrite mult_IZR, <- two_int by lia. unfold q. rewrite Rmult_assoc, <- two_add. do 2 f_equal. ring.
  - (* y is below the binade of x, whose lower end is a multiple *)
    set (b := IZR (2 ^ (Z.of_nat p - 1)) * q) in *.
    assert (Y : Rabs (IZR k * powerRZ 2 e) <= b).
    { rewrite Rabs_mult, (Rabs_pos_eq (powerRZ 2 e)) by (left; apply two_pos). unfold b, q.
      rewrite <- two_int, <- two_add by lia.
      apply Rle_trans with (powerRZ 2 (Z.of_nat p) * powerRZ 2 e).
      - apply Rmult_le_compat_r; [left; apply two_pos|]. rewrite two_int, <- abs_IZR by lia. apply IZR_le. lia.
      - rewrite <- two_add. apply two_le. lia. }
    apply Rle_trans with (Rabs x - b).
    + destruct (Rle_lt_dec 0 x) as [S|S].
      * specialize (R (2 ^ (Z.of_nat p - 1))%Z). fold b in R. rewrite (Rabs_pos_eq x) in * by easy.
        rewrite (Rabs_left1 (b - x)) in R by lra. lra.
      * specialize (R (- 2 ^ (Z.of_nat p - 1))%Z). rewrite opp_IZR, Ropp_mult_distr_l_reverse in R. fold b in R.
        rewrite (Rabs_left x) in * by easy. rewrite (Rabs_pos_eq (- b - x)) in R by lra. lra.
    + pose proof (Rabs_triang (IZR k * powerRZ 2 e) (x - IZR k * powerRZ 2 e)) as T.
      replace (IZR k * powerRZ 2 e + (x - IZR k * powerRZ 2 e)) with x in T by ring.
      rewrite (Rabs_minus_sym x) in T. lra.
Qed.

(* The unit roundoff of rounding to nearest is u = 2^-p: |fl x - x| <= u |x|, and <= u |fl x|. *)
(* begin: T13_unit *)
Theorem T13_unit (p : nat) (fl : R -> R) (x : R) :
  (1 <= p)%nat -> rounds_to_nearest p fl ->
  Rabs (fl x - x) <= / 2 ^ p * Rabs x /\ Rabs (fl x - x) <= / 2 ^ p * Rabs (fl x).
(* end: T13_unit *)
Proof.
  intros Hp F. destruct (F x) as [_ N]. assert (P0 : 0 < 2 ^ p) by (apply pow_lt; lra).
  destruct (Req_EM_T x 0) as [E|Hx].
  { specialize (N _ (round_representable p x Hp)). unfold round in N. destruct (Req_EM_T x 0); [|easy].
    rewrite E, Rminus_0_r, Rminus_0_r, Rabs_R0 in *. pose proof (Rabs_pos (fl 0)).
    replace (Rabs (fl 0)) with 0 by lra. lra. }
  pose proof (spacing_binade p x Hp Hx) as [B _]. pose proof (round_error p x Hx) as [R _]. cbv zeta in R.
  set (q := powerRZ 2 (spacing p x)) in *. set (b := IZR (2 ^ (Z.of_nat p - 1))) in *.
  assert (E2 : 2 ^ p = 2 * b).
  { unfold b. rewrite pow_IZR, <- mult_IZR. f_equal. rewrite <- Z.pow_succ_r by lia. f_equal. lia. }
  pose proof (Rle_trans _ _ _ (N _ (round_representable p x Hp)) R) as H.
  assert (Hb : 0 < b) by lra.
  assert (Scale : forall y, b * q <= y -> q / 2 <= / 2 ^ p * y).
  { intros y Hy. apply (Rmult_le_reg_l (2 ^ p)); [easy|].
    replace (2 ^ p * (/ 2 ^ p * y)) with y by (field; lra). rewrite E2. lra. }
  split; apply (Rle_trans _ _ _ H), Scale; [easy|].
  (* fl x is not below the binade of x, whose lower end is a number with p bits *)
  assert (Rep : forall a : Z, (Z.abs a <= 1)%Z -> representable p (IZR a * (b * q))).
  { intros a Ha. exists a, (Z.of_nat p - 1 + spacing p x)%Z. split.
    - assert (2 ^ 1 <= 2 ^ Z.of_nat p)%Z by (apply Z.pow_le_mono_r; lia). lia.
    - rewrite two_add, (two_int (Z.of_nat p - 1)) by lia. easy. }
  apply Rnot_lt_le. intros C.
  pose proof (N _ (Rep 1%Z ltac:(lia))) as Up. pose proof (N _ (Rep (-1)%Z ltac:(lia))) as Down.
  unfold Rabs in *. repeat destruct Rcase_abs; lra.
Qed.

(* Shifting both scores by c and rounding each once moves d by at most u (|r_w + c| + |r_l + c|), and as well by at most
   u times the sum of the sizes of the shifted, rounded scores. *)
(* begin: T13_shift_cost *)
Theorem T13_shift_cost (p : nat) (fl : R -> R) (r_w r_l c : R) :
  (1 <= p)%nat -> rounds_to_nearest p fl ->
  let moved := Rabs ((fl (r_w + c) - fl (r_l + c)) - (r_w - r_l)) in
  moved <= / 2 ^ p * (Rabs (r_w + c) + Rabs (r_l + c)) /\
  moved <= / 2 ^ p * (Rabs (fl (r_w + c)) + Rabs (fl (r_l + c))).
(* end: T13_shift_cost *)
Proof.
  intros Hp F moved. pose proof (T13_unit p fl (r_w + c) Hp F) as [W W'].
  pose proof (T13_unit p fl (r_l + c) Hp F) as [L L'].
  unfold moved. replace (fl (r_w + c) - fl (r_l + c) - (r_w - r_l))
    with ((fl (r_w + c) - (r_w + c)) + - (fl (r_l + c) - (r_l + c))) by ring.
  pose proof (Rabs_triang (fl (r_w + c) - (r_w + c)) (- (fl (r_l + c) - (r_l + c)))) as T. rewrite Rabs_Ropp in T.
  split; lra.
Qed.

(* The loss of the pair changes by at most as much as d does, its derivative by at most a quarter of it. *)
(* begin: T13_loss *)
Theorem T13_loss (eps m d d' : R) :
  0 <= eps <= 1 ->
  Rabs (pair_loss eps (d' - m) - pair_loss eps (d - m)) <= Rabs (d' - d) /\
  Rabs (slope eps (d' - m) - slope eps (d - m)) <= Rabs (d' - d) / 4.
(* end: T13_loss *)
Proof.
  intros He. replace (d' - m) with ((d - m) + (d' - d)) by ring.
  split; [now apply pair_loss_lipschitz|apply slope_lipschitz].
Qed.

(* Sterbenz: if two numbers of the format have one sign and each is at most twice the other in size, their difference is
   one too, so that subtracting them adds no error. *)
(* begin: T13_sterbenz *)
Theorem T13_sterbenz (p : nat) (fl : R -> R) (x y : R) :
  rounds_to_nearest p fl -> representable p x -> representable p y ->
  0 < x * y -> Rabs x <= 2 * Rabs y -> Rabs y <= 2 * Rabs x ->
  fl (x - y) = x - y.
(* end: T13_sterbenz *)
Proof.
  intros F Rx Ry Hp Hx Hy.
  assert (Exact : forall z, representable p z -> fl z = z).
  { intros z Hz. destruct (F z) as [_ N]. specialize (N z Hz). rewrite (Rminus_diag_eq z z), Rabs_R0 in N by easy.
    destruct (Req_dec (fl z - z) 0) as [|Hn]; [lra|]. pose proof (Rabs_pos_lt _ Hn). lra. }
  apply Exact. destruct Rx as (k & e & Hk & Ex), Ry as (j & f & Hj & Ey).
  assert (Sub : forall n g, x - y = IZR n * powerRZ 2 g ->
    (exists a, (Z.abs a < 2 ^ Z.of_nat p)%Z /\ Rabs (x - y) <= Rabs (IZR a * powerRZ 2 g)) -> representable p (x - y)).
  { intros n g E (a & Ha & L). exists n, g. split; [|easy]. rewrite E, 2!Rabs_mult in L.
    apply Rmult_le_reg_r in L; [|apply Rabs_pos_lt, Rgt_not_eq, two_pos].
    rewrite <- 2!abs_IZR in L. apply le_IZR in L. lia. }
  assert (Small : Rabs (x - y) <= Rabs x /\ Rabs (x - y) <= Rabs y)
    by (split; revert Hx Hy; unfold Rabs; repeat destruct Rcase_abs; intros; nra).
  destruct (Z.le_ge_cases e f) as [H|H].
  - apply (Sub (k - j * 2 ^ (f - e))%Z e).
    + rewrite minus_IZR, mult_IZR, <- two_int by lia. rewrite Rmult_minus_distr_r, Rmult_assoc, <- two_add.
      replace (f - e + e)%Z with f by ring. now rewrite Ex, Ey.
    + exists k. rewrite <- Ex. easy.
  - apply (Sub (k * 2 ^ (e - f) - j)%Z f).
    + rewrite minus_IZR, mult_IZR, <- two_int by lia. rewrite Rmult_minus_distr_r, Rmult_assoc, <- two_add.
      replace (e - f + f)%Z with e by ring. now rewrite Ex, Ey.
    + exists j. rewrite <- Ey. easy.
Qed.

(* In bfloat16 the numbers from 256 to 512 are the even integers: a margin between two of them is 0, 2, 4, ... or its
   negative, and between 498 and 500 there is nothing. *)
(* begin: T13_bfloat16 *)
Theorem T13_bfloat16 :
  (forall x, 256 <= x <= 512 -> representable 8 x <-> exists j : Z, x = 2 * IZR j) /\
  (forall r_w r_l, 256 <= r_w <= 512 -> 256 <= r_l <= 512 ->
    representable 8 r_w -> representable 8 r_l ->
    exists j : Z, r_w - r_l = 2 * IZR j) /\
  (representable 8 498 /\ representable 8 500 /\
    forall x, 498 < x < 500 -> ~ representable 8 x).
(* end: T13_bfloat16 *)
Proof.
  assert (E : forall x, 256 <= x <= 512 -> representable 8 x <-> exists j : Z, x = 2 * IZR j).
  { intros x Hx. split.
    - intros (k & e & Hk & ->). simpl in Hk.
      assert (Hk' : IZR k < 256) by (apply IZR_lt; lia).
      destruct (Z.le_gt_cases e 0) as [He|He].
      + exfalso. pose proof (two_pos e). pose proof (two_le e 0 He) as T. simpl in T.
        destruct (Rle_lt_dec 0 (IZR k)); nra.
      + exists (k * 2 ^ (e - 1))%Z. rewrite mult_IZR, <- two_int by lia.
        replace e with (1 + (e - 1))%Z at 1 by ring. rewrite two_add. simpl (powerRZ 2 1). ring.
    - intros (j & ->).
      assert (J : (128 <= j <= 256)%Z) by (split; apply le_IZR; lra).
      destruct (Z.eq_dec j 256) as [->|].
      + exists 128%Z, 2%Z. split; [simpl; lia|]. simpl. ring.
      + exists j, 1%Z. split; [simpl; lia|]. simpl. ring. }
  split; [easy|]. split; [|split; [|split]].
  - intros w l Hw Hl Rw Rl. apply E in Rw; [|easy]. apply E in Rl; [|easy].
    destruct Rw as (a & ->), Rl as (b & ->). exists (a - b)%Z. rewrite minus_IZR. ring.
  - apply E; [lra|]. exists 249%Z. lra.
  - apply E; [lra|]. exists 250%Z. lra.
  - intros x Hx Rx. apply E in Rx; [|lra]. destruct Rx as (j & ->).
    assert (249 < j < 250)%Z by (split; apply lt_IZR; lra). lia.
Qed.

(* So shift invariance, exact over the reals, is false over floats: in bfloat16 the scores 1 and 0, shifted by 256, have
   no margin of 1 any more, however ties are rounded. *)
(* begin: T13_not_invariant *)
Theorem T13_not_invariant (fl : R -> R) :
  rounds_to_nearest 8 fl -> fl (1 + 256) - fl (0 + 256) <> 1 - 0.
(* end: T13_not_invariant *)
Proof.
  intros F C. destruct T13_bfloat16 as (E & D & _).
  assert (R256 : representable 8 256) by (apply E; [lra|]; exists 128%Z; lra).
  destruct (F (0 + 256)) as [_ N0]. specialize (N0 256 R256).
  destruct (F (1 + 256)) as [W N1]. pose proof (N1 256 R256) as Lo.
  assert (L0 : fl (0 + 256) = 256).
  { replace (256 - (0 + 256)) with 0 in N0 by ring. rewrite Rabs_R0 in N0.
    assert (Z : fl (0 + 256) - (0 + 256) = 0).
    { destruct (Req_dec (fl (0 + 256) - (0 + 256)) 0) as [|Hn]; [easy|]. pose proof (Rabs_pos_lt _ Hn). lra. }
    lra. }
  assert (B : 256 <= fl (1 + 256) <= 512).
  { replace (256 - (1 + 256)) with (-1) in Lo by ring. replace (Rabs (-1)) with 1 in Lo by (rewrite Rabs_left; lra).
    apply Rabs_le_between in Lo. lra. }
  destruct (D (fl (1 + 256)) 256 B ltac:(lra) W R256) as (j & Ej).
  rewrite L0 in C. assert (2 * IZR j = 1) by lra. rewrite <- mult_IZR in H. apply eq_IZR in H. lia.
Qed.
