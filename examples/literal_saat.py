"""The paper's step written down literally, the slow way: what the library is compared with.

Discriminator, attacker and detector are updated one after the other, each from a computation of its
own: the attacker draws three times, the detector sees adversarial pictures twice. L_R has weight 1
and L_A no limit. `advaug.SampleAdaptiveAdversary` gives the same gradients from less:
`tests/contract/test_modes.py` holds them against each other, `benchmark.py step` measures the
difference.
"""

import torch
from torch import Tensor, nn
from torch.optim import Adam

from advaug import LandmarkTask
from advaug import functional as saat


class LiteralSAAT:
    """Call it like the adversary: `loss = loss + literal(detector, images, target)`.

    Args:
        task: What the detector's output means.
        attacker: A(I, S, z), on the pictures' device.
        discriminator: D(I, S), likewise.
        relaxation: λ of Eq. 3.
    """

    def __init__(
        self,
        task: LandmarkTask,
        attacker: nn.Module,
        discriminator: nn.Module,
        relaxation: float = 0.1,
    ) -> None:
        self.task, self.relaxation = task, relaxation
        self.attacker, self.discriminator = attacker, discriminator
        self.attacker_optimizer = Adam(attacker.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.discriminator_optimizer = Adam(discriminator.parameters(), lr=1e-4, betas=(0.5, 0.999))

    def __call__(self, detector: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Update discriminator and attacker, and give the loss of Eq. 8."""
        self.discriminator_optimizer.zero_grad()
        self.discriminator_loss(images, target).backward()
        self.discriminator_optimizer.step()
        # Freezing for the attacker's update, as the paper says it.
        frozen = [*detector.parameters(), *self.discriminator.parameters()]
        for parameter in frozen:
            parameter.requires_grad_(False)
        self.attacker_optimizer.zero_grad()
        self.attacker_loss(detector, images, target).backward()
        self.attacker_optimizer.step()
        for parameter in frozen:
            parameter.requires_grad_(True)
        return self.detector_loss(detector, images, target)

    def discriminator_loss(
        self, images: Tensor, target: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Eq. 5, its sign turned."""
        structure = self.structure(images, target)
        with torch.no_grad():
            adversarial = self.adversarial(images, structure, noise)
        real, fake = (self.discriminator(i, structure) for i in (images, adversarial))
        return saat.discriminator_loss(real, fake).mean()

    def attacker_loss(
        self, detector: nn.Module, images: Tensor, target: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Eq. 7: L_F + L_A + L_R."""
        structure = self.structure(images, target)
        adversarial = self.adversarial(images, structure, noise)
        error = self.task.error(detector(adversarial), target)
        feedback = saat.feedback_loss(error, relaxation=self.relaxation)
        imitation = saat.attacker_adversarial_loss(self.discriminator(adversarial, structure))
        mask = saat.semantic_mask(structure)
        reconstruction = saat.semantic_reconstruction_loss(images, adversarial, mask)
        return (feedback + imitation + reconstruction).mean()

    def detector_loss(
        self, detector: nn.Module, images: Tensor, target: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Eq. 8, with β of Eq. 9."""
        structure = self.structure(images, target)
        with torch.no_grad():
            adversarial = self.adversarial(images, structure, noise)
            beta = saat.adaptive_beta(images, adversarial, saat.semantic_mask(structure))
        return (beta * self.task.error(detector(adversarial), target)).mean()

    def structure(self, images: Tensor, target: Tensor) -> Tensor:
        """S of Eq. 2."""
        heatmaps = self.task.landmark_heatmaps(target, (images.shape[-2], images.shape[-1]))
        return saat.structure_map(heatmaps)

    def adversarial(self, images: Tensor, structure: Tensor, noise: Tensor | None) -> Tensor:
        """I_adv of Eq. 2."""
        noise = torch.randn_like(images[:, :1]) if noise is None else noise
        return images + self.attacker(images, structure, noise)
