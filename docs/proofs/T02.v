(* T2. Gradients. *)
From Refrm Require Import Common.

(* The loss of a pair has the derivative l'(z) = eps - sigma(-z) = -((1 - eps) sigma(-z) - eps sigma(z)), between eps -
   1 and eps, and the second derivative sigma(z) sigma(-z), whatever eps is. *)
(* begin: T2_pair *)
Theorem T2_pair (eps z : R) :
  is_derive (fun z => pair_loss eps z) z (eps - sigmoid (- z)) /\
  is_derive (fun z => eps - sigmoid (- z)) z (sigmoid z * sigmoid (- z)) /\
  eps - sigmoid (- z) = - ((1 - eps) * sigmoid (- z) - eps * sigmoid z) /\
  eps - 1 < eps - sigmoid (- z) < eps.
(* end: T2_pair *)
Proof.
  pose proof (is_derive_pair_loss eps z) as D. rewrite slope_eq in D. apply conj; [exact D|].
  apply conj; [|split].
  - apply (is_derive_Rext (slope eps)); [apply slope_eq|apply is_derive_slope].
  - rewrite <- slope_eq. reflexivity.
  - pose proof (sigmoid_pos (- z)). pose proof (sigmoid_lt_1 (- z)). lra.
Qed.

(* The derivative of L in the score of the chosen response of pair i is - ((1 - eps) sigma(-z) - eps sigma(z)) / N,
   z = d - m, and that in the score of the rejected one is its negative. *)
(* begin: T2_gradient *)
Theorem T2_gradient (N : nat) (eps : R) (m r_w r_l : nat -> R) (i : nat) :
  (i < N)%nat ->
  let z := r_w i - r_l i - m i in
  is_derive (fun x => loss N eps m (put r_w i x) r_l) (r_w i)
    (- ((1 - eps) * sigmoid (- z) - eps * sigmoid z) / INR N) /\
  is_derive (fun x => loss N eps m r_w (put r_l i x)) (r_l i)
    (((1 - eps) * sigmoid (- z) - eps * sigmoid z) / INR N).
(* end: T2_gradient *)
Proof.
  intros Hi z. apply conj; [apply (loss_w N eps m r_w r_l i Hi)|].
  apply (is_derive_eq _ _ _ _ (loss_l N eps m r_w r_l i Hi)). fold z. unfold slope. f_equal. ring.
Qed.

(* Without smoothing these are - sigma(-(d - m)) / N and + sigma(-(d - m)) / N. *)
(* begin: T2_gradient_plain *)
Theorem T2_gradient_plain (N : nat) (m r_w r_l : nat -> R) (i : nat) :
  (i < N)%nat ->
  is_derive (fun x => loss N 0 m (put r_w i x) r_l) (r_w i)
    (- sigmoid (- (r_w i - r_l i - m i)) / INR N) /\
  is_derive (fun x => loss N 0 m r_w (put r_l i x)) (r_l i)
    (sigmoid (- (r_w i - r_l i - m i)) / INR N).
(* end: T2_gradient_plain *)
Proof.
  intros Hi. destruct (T2_gradient N 0 m r_w r_l i Hi) as [Hw Hl].
  split; [apply (is_derive_eq _ _ _ _ Hw)|apply (is_derive_eq _ _ _ _ Hl)]; f_equal; ring.
Qed.

(* Both partial derivatives of lambda P are 2 lambda s / N. *)
(* begin: T2_penalty *)
Theorem T2_penalty (N : nat) (lambda : R) (r_w r_l : nat -> R) (i : nat) :
  (i < N)%nat ->
  is_derive (fun x => lambda * penalty N (put r_w i x) r_l) (r_w i)
    (2 * lambda * (r_w i + r_l i) / INR N) /\
  is_derive (fun x => lambda * penalty N r_w (put r_l i x)) (r_l i)
    (2 * lambda * (r_w i + r_l i) / INR N).
(* end: T2_penalty *)
Proof.
  intros Hi. apply conj.
  - apply (is_derive_eq _ _ _ _ (is_derive_Rscal _ _ lambda _ (penalty_w N r_w r_l i Hi))). unfold Rdiv. ring.
  - apply (is_derive_eq _ _ _ _ (is_derive_Rscal _ _ lambda _ (penalty_l N r_w r_l i Hi))). unfold Rdiv. ring.
Qed.

(* one entry of the gradient of pair i, as a function of one of its scores *)
Lemma entry_w eps m lambda n a w l :
  is_derive (fun x => (a * slope eps (x - l - m) + 2 * lambda * (x + l)) / n) w
    ((a * curvature (w - l - m) + 2 * lambda) / n).
Proof. pose proof (is_derive_slope eps (w - l - m)). derive. unfold Rdiv. ring. Qed.

Lemma entry_l eps m lambda n a w l :
  is_derive (fun x => (a * slope eps (w - x - m) + 2 * lambda * (w + x)) / n) l
    ((- a * curvature (w - l - m) + 2 * lambda) / n).
Proof. pose proof (is_derive_slope eps (w - l - m)). derive. unfold Rdiv. ring. Qed.

(* The second derivatives of J. Within pair i they are h [[1,-1],[-1,1]] + 2 lambda [[1,1],[1,1]], over N, with
   h = sigma(z) sigma(-z); between two pairs they are 0. *)
(* begin: T2_hessian *)
Theorem T2_hessian (N : nat) (lambda eps : R) (m r_w r_l : nat -> R) (i j : nat) :
  (i < N)%nat -> (j < N)%nat ->
  let J := objective N lambda eps m in
  let z := r_w i - r_l i - m i in
  let h := sigmoid z * sigmoid (- z) in
  let same := (h + 2 * lambda) / INR N in
  let mixed := (- h + 2 * lambda) / INR N in
  is_derive (fun x => partial (fun w => J w r_l) i (put r_w j x)) (r_w j)
    (if Nat.eqb i j then same else 0) /\
  is_derive (fun x => partial (fun w => J w (put r_l j x)) i r_w) (r_l j)
    (if Nat.eqb i j then mixed else 0) /\
  is_derive (fun x => partial (fun l => J (put r_w j x) l) i r_l) (r_w j)
    (if Nat.eqb i j then mixed else 0) /\
  is_derive (fun x => partial (fun l => J r_w l) i (put r_l j x)) (r_l j)
    (if Nat.eqb i j then same else 0).
(* end: T2_hessian *)
Proof.
  intros Hi Hj J z h same mixed. unfold same, mixed, h, z, J. fold (curvature (r_w i - r_l i - m i)).
  assert (Gw : forall w l, partial (fun v => objective N lambda eps m v l) i w
      = (1 * slope eps (w i - l i - m i) + 2 * lambda * (w i + l i)) / INR N)
    by (intros; rewrite partial_objective_w by easy; f_equal; ring).
  assert (Gl : forall w l, partial (fun v => objective N lambda eps m w v) i l
      = (-1 * slope eps (w i - l i - m i) + 2 * lambda * (w i + l i)) / INR N)
    by (intros; rewrite partial_objective_l by easy; f_equal; ring).
  destruct (Nat.eqb_spec i j) as [<-|Hn]; refine (conj _ (conj _ (conj _ _))).
  - eapply is_derive_eq; [eapply is_derive_Rext, (entry_w eps (m i) lambda (INR N) 1 _ (r_l i))|f_equal; ring].
    intros x. now rewrite Gw, put_at.
  - eapply is_derive_eq; [eapply is_derive_Rext, (entry_l eps (m i) lambda (INR N) 1 (r_w i))|f_equal; ring].
    intros x. now rewrite Gw, put_at.
  - eapply is_derive_eq; [eapply is_derive_Rext, (entry_w eps (m i) lambda (INR N) (-1) _ (r_l i))|f_equal; ring].
    intros x. now rewrite Gl, put_at.
  - eapply is_derive_eq; [eapply is_derive_Rext, (entry_l eps (m i) lambda (INR N) (-1) (r_w i))|f_equal; ring].
    intros x. now rewrite Gl, put_at.
  - eapply is_derive_Rext, @is_derive_const. intros x. rewrite Gw, put_other by easy. reflexivity.
  - eapply is_derive_Rext, @is_derive_const. intros x. rewrite Gw, put_other by easy. reflexivity.
  - eapply is_derive_Rext, @is_derive_const. intros x. rewrite Gl, put_other by easy. reflexivity.
  - eapply is_derive_Rext, @is_derive_const. intros x. rewrite Gl, put_other by easy. reflexivity.
Qed.

(* h is positive and at most 1/4, which it is at z = 0 only. *)
(* begin: T2_curvature *)
Theorem T2_curvature (z : R) :
  0 < sigmoid z * sigmoid (- z) <= 1 / 4 /\
  (sigmoid z * sigmoid (- z) = 1 / 4 <-> z = 0).
(* end: T2_curvature *)
Proof.
  split; [split; [apply curvature_pos|apply curvature_le]|]. split; [|intros ->; rewrite Ropp_0, sigmoid_0; field].
  rewrite sigmoid_opp. intros E. assert (H : sigmoid z = 1 / 2) by nra.
  destruct (Rtotal_order z 0) as [L|[L|L]]; [|easy|]; apply sigmoid_increasing in L; rewrite sigmoid_0 in L; lra.
Qed.

(* The matrix [[same, mixed], [mixed, same]] of T2_hessian maps (1, -1) to 2 h / N times itself and (1, 1) to
   4 lambda / N times itself. *)
(* begin: T2_eigenvalues *)
Theorem T2_eigenvalues (N : nat) (lambda h : R) :
  let same := (h + 2 * lambda) / INR N in
  let mixed := (- h + 2 * lambda) / INR N in
  same * 1 + mixed * -1 = 2 * h / INR N * 1 /\
  mixed * 1 + same * -1 = 2 * h / INR N * -1 /\
  same * 1 + mixed * 1 = 4 * lambda / INR N * 1 /\
  mixed * 1 + same * 1 = 4 * lambda / INR N * 1.
(* end: T2_eigenvalues *)
Proof. unfold Rdiv. repeat split; ring. Qed.
