"""A tiny stand-in for torchmultimodal's ALBEF: its attribute names and call signatures, and its real ViT."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.vision_transformer import VisionTransformer

from tests.adapters.host_checks import SIDE

WIDTH, WORDS, EMBED = 16, 30, 12


class ALBEFVisionEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder_layer_name = "encoder.ln"
        vit = VisionTransformer(SIDE, 8, 5, 2, WIDTH, 32)
        self.encoder = create_feature_extractor(vit, [self.encoder_layer_name])

    def forward(self, x):
        return self.encoder(x)[self.encoder_layer_name]


class BERTTextEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(64, WIDTH)
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 32, 0.0, batch_first=True)

    def forward(self, input_ids=None, attention_mask=None):
        x = self.embeddings(input_ids) + self.positions.weight[: input_ids.shape[1]]
        return SimpleNamespace(last_hidden_state=self.encoder(x, src_key_padding_mask=attention_mask == 0))


class ALBEFMultimodalEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(WIDTH, 2, 32, 0.0, batch_first=True)

    def forward(self, hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask=None):
        hidden = None if encoder_attention_mask is None else encoder_attention_mask == 0
        masks = {"tgt_key_padding_mask": attention_mask == 0, "memory_key_padding_mask": hidden}
        return self.layer(hidden_states, encoder_hidden_states, **masks)


class ALBEFModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.vision_encoder, self.text_encoder = ALBEFVisionEncoder(), BERTTextEncoder()
        self.multimodal_encoder = ALBEFMultimodalEncoder()
        self.vision_encoder_m = ALBEFVisionEncoder()
        self.vision_encoder_m.load_state_dict(self.vision_encoder.state_dict())
        self.vision_encoder_m.requires_grad_(False)


class ALBEFModelWithSimilarity(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.albef_model = ALBEFModel()
        self.vision_proj, self.text_proj = nn.Linear(WIDTH, EMBED), nn.Linear(WIDTH, EMBED)
        self.temp = nn.Parameter(torch.ones([]) * 0.07)
        self.register_buffer("image_queue", F.normalize(torch.randn(EMBED, 4), dim=0))

    def forward(self, image, text, text_atts, idx):
        seen = self.albef_model.vision_encoder(image)
        words = self.albef_model.text_encoder(text, text_atts).last_hidden_state
        own = F.normalize(self.vision_proj(seen[:, 0]), dim=-1)
        said = F.normalize(self.text_proj(words[:, 0]), dim=-1)
        keys = torch.cat([own, self.image_queue.T])
        fused = self.albef_model.multimodal_encoder(words, text_atts, seen)
        return SimpleNamespace(sim_i2t=own @ said.T / self.temp, sim_t2i=said @ keys.T / self.temp, fused=fused)


class ALBEFModelForRetrieval(nn.Module):
    """As in torchmultimodal's examples: `model(image, text, text_atts, idx, alpha, is_train=True)` is the loss."""

    def __init__(self, seed=0):
        super().__init__()
        self.model_with_similarity = ALBEFModelWithSimilarity(seed)
        self.itm_head = nn.Linear(WIDTH, 2)

    def forward(self, image, text, text_atts, idx=None, alpha=0.0, is_train=True):
        out, target = self.model_with_similarity(image, text, text_atts, idx), torch.arange(len(image))
        itc = (F.cross_entropy(out.sim_i2t, target) + F.cross_entropy(out.sim_t2i, target)) / 2
        logits = self.itm_head(out.fused[:, 0])
        return itc + F.cross_entropy(logits, torch.ones_like(target)) if is_train else logits[:, 1]
