"""What can be measured, in a line each."""

__all__ = ["MEASURES"]

MEASURES: dict[str, str] = {
    "hessian_trace": "Tr H",
    "hessian_top_eigenvalue": "λ_max, with its residual",
    "hessian_bottom_eigenvalue": "λ_min, with its residual",
    "hessian_eigenvalues": "the five largest and the five smallest eigenvalues",
    "hessian_frobenius_norm": "‖H‖_F",
    "hessian_effective_rank": "(Tr H)² / ‖H‖_F²",
    "hessian_condition_number": "λ_max / λ_min, where λ_min is known to be positive",
    "hessian_layer_traces": "trace of each layer's block of H",
    "hessian_density": "spectral density by stochastic Lanczos quadrature (table)",
    "adaptive_trace": "Σ x_i² H_ii, the same after a ReLU network is rescaled",
    "filter_normalized_trace": "Σ_f ‖x_f‖² Tr H_ff / d_f over filters f",
    "gauss_newton_trace": "trace of the Gauss-Newton matrix, for the cross-entropy the Fisher matrix",
    "gauss_newton_top_eigenvalue": "its largest eigenvalue",
    "fisher_trace": "trace of the empirical Fisher matrix",
    "fisher_top_eigenvalue": "its largest eigenvalue",
    "gradient_noise_trace": "Tr Σ, Σ the covariance of a single sample's gradient",
    "noise_curvature": "Tr HΣ",
    "noise_alignment": "P Tr HΣ / (Tr H Tr Σ): 1 where the noise is isotropic",
    "tail_index": "tail index of the norm of a sample's gradient noise, by Hill's estimator",
    "excess_risk": "J(x) − J(x*), x* the end of a descent from x",
    "newton_decrement": "½ gᵀ H⁺ g: the excess risk as slope and curvature tell it, without a descent",
    "average_sharpness": "mean rise of the loss under normal perturbations",
    "adaptive_average_sharpness": "the same in units of the parameters",
    "worst_sharpness": "largest rise of the loss found in a ball (SAM)",
    "adaptive_sharpness": "the same in units of the parameters (ASAM)",
    "m_sharpness": "the same for single batches of 32 samples, and the mean over them",
    "relative_flatness": "κ, by Petzka et al., summed over the layers",
    "pac_bayes_sigma": "perturbation under which the loss rises by 0.1 on average",
    "loss_slices": "loss along top eigenvectors and random directions (table)",
    "loss_surface": "loss in the plane in which the agents spread most (tables)",
    "random_plane": "loss in a plane of two random directions whose filters have the norms of the model's (tables)",
    "consensus_sharpness": "Σ π_k J(x_k) − J(x̄), and ½ Σ π_k δ_kᵀ H δ_k beside it",
    "disagreement_alignment": "curvature along the disagreement over the mean one; its part in top eigenvectors",
    "implicit_regularization": "½ Tr HΞ, what disagreement adds to the loss that is descended, and its gradient's norm",
    "agent_barriers": "rise of the loss on the way from the centroid to each agent (table)",
    "stability_limit": "2 / μ and (1 + λ_min(W)) / μ, the largest curvatures that plain SGD is stable at",
}
"""Measures by name, as `basinet.sim.experiment.config.Measure` allows them. `_own` is added to the name
under an agent's own samples, and `_training` where the model is in training mode."""
