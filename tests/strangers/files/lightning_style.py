import torch
from torch import nn
from torch.nn import functional as F
from torchvision.datasets import MNIST
from torchvision import transforms
import pytorch_lightning as pl


class Backbone(nn.Module):
    def __init__(self, hidden_dim=64):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2), nn.SiLU(), nn.Conv2d(8, 16, 3, stride=2), nn.SiLU())
        self.l1 = nn.Linear(16 * 6 * 6, hidden_dim)
        self.l2 = nn.Linear(hidden_dim, 10)

    def forward(self, x):
        x = self.layer(x).flatten(1)
        x = torch.relu(self.l1(x))
        return self.l2(x)


class LitClassifier(pl.LightningModule):
    def __init__(self, hidden_dim=64, learning_rate=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.model = Backbone(hidden_dim)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.model(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


if __name__ == "__main__":
    pl.seed_everything(1234)
    dataset = MNIST("", train=True, download=True, transform=transforms.ToTensor())
    trainer = pl.Trainer(max_epochs=5)
    trainer.fit(LitClassifier(), torch.utils.data.DataLoader(dataset, batch_size=32))
    trainer.save_checkpoint("epoch=4.ckpt")
