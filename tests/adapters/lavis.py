"""Tiny stand-ins for LAVIS's pretraining classes, with their attribute names and call signatures."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from tests.adapters.official import EMBED, WIDTH, WORDS, BertForMaskedLM, VisionTransformer

CLS, MASK, DEC, ENC = 1, 2, WORDS - 2, WORDS - 1


class Tokenizer:
    """Reads numbers."""

    cls_token_id, pad_token_id, bos_token_id = CLS, 0, DEC

    def __call__(self, texts, padding="max_length", truncation=True, max_length=30, return_tensors="pt"):
        rows = [[CLS, *map(int, text.split())][:max_length] for text in texts]
        ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        return SimpleNamespace(input_ids=ids, attention_mask=(ids != 0).long())


class VisionTransformerEncoder(VisionTransformer):
    vision_width = WIDTH

    def forward_features(self, x, register_blk=-1):
        return super().forward(x, register_blk)


class XBertEncoder(nn.Module):
    """BLIP's text encoder: every layer can look at an image, and the same layers do without."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=WIDTH, num_hidden_layers=2)
        self.embeddings = Embeddings()
        self.layer = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 2, 32, 0.0, batch_first=True) for _ in range(2))
        self.crossattention = nn.ModuleList(nn.MultiheadAttention(WIDTH, 2, batch_first=True) for _ in range(2))

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        encoder_embeds=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        return_dict=None,
        mode="multimodal",
    ):
        assert return_dict
        x = self.embeddings(input_ids=input_ids) if encoder_embeds is None else encoder_embeds
        for layer, cross in zip(self.layer, self.crossattention, strict=True):
            x = layer(x, src_key_padding_mask=attention_mask == 0)
            if mode == "multimodal":
                h = encoder_hidden_states
                x = x + cross(x, h, h, key_padding_mask=encoder_attention_mask == 0, need_weights=False)[0]
        return SimpleNamespace(last_hidden_state=x)

    def forward_text(self, tokenized_text):
        text = tokenized_text
        return self(text.input_ids, attention_mask=text.attention_mask, return_dict=True, mode="text")


class Embeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(WORDS, WIDTH), nn.Embedding(64, WIDTH)

    def forward(self, input_ids=None):
        return self.word_embeddings(input_ids) + self.position_embeddings.weight[: input_ids.shape[1]]


class _Pretrain(nn.Module):
    """What both have: encoders, projections, momentum copies, a queue, and losses of a dict of samples."""

    def __init__(self, image_encoder, text_encoder):
        super().__init__()
        self.tokenizer = Tokenizer()
        self.visual_encoder, self.text_encoder = image_encoder, text_encoder
        self.vision_proj, self.text_proj = nn.Linear(WIDTH, EMBED), nn.Linear(WIDTH, EMBED)
        self.itm_head = nn.Linear(WIDTH, 2)
        self.visual_encoder_m = VisionTransformerEncoder()
        self.visual_encoder_m.load_state_dict(image_encoder.state_dict())
        self.visual_encoder_m.requires_grad_(False)
        self.register_buffer("image_queue", F.normalize(torch.randn(EMBED, 4), dim=0))
        self.temp = nn.Parameter(0.07 * torch.ones([]))
        self.max_txt_len = 30

    def contrast(self, image, seen, words):
        with torch.no_grad():
            keys = F.normalize(self.vision_proj(self.visual_encoder_m(image)[:, 0]), dim=-1)
            keys = torch.cat([keys, self.image_queue.T])
        own = F.normalize(self.vision_proj(seen[:, 0]), dim=-1)
        said = F.normalize(self.text_proj(words[:, 0]), dim=-1)
        target = torch.arange(len(image))
        to_text, to_image = own @ said.T / self.temp, said @ keys.T / self.temp
        return (F.cross_entropy(to_text, target) + F.cross_entropy(to_image, target)) / 2, to_text


class AlbefPretrain(_Pretrain):
    def __init__(self, seed=0):
        torch.manual_seed(seed)
        super().__init__(VisionTransformerEncoder(), BertForMaskedLM())

    def forward(self, samples):
        with torch.no_grad():
            self.temp.clamp_(0.001, 0.5)
        image, text = samples["image"], self.tokenizer(samples["text_input"], max_length=self.max_txt_len)
        seen = self.visual_encoder.forward_features(image)
        looked = {"encoder_hidden_states": seen, "encoder_attention_mask": torch.ones(seen.shape[:2]).long()}
        common = {"attention_mask": text.attention_mask, "return_dict": True}
        words = self.text_encoder.bert(text.input_ids, mode="text", **common).last_hidden_state
        itc, similarity = self.contrast(image, seen, words)
        fused = self.text_encoder.bert(encoder_embeds=words, mode="fusion", **looked, **common).last_hidden_state
        logits = self.itm_head(fused[:, 0])
        itm = F.cross_entropy(logits, torch.ones(len(image)).long())
        fused = self.text_encoder.bert(text.input_ids, **looked, **common).last_hidden_state
        mlm = F.cross_entropy(self.text_encoder.cls(fused).flatten(0, 1), text.input_ids.flatten())
        losses = {"loss": itc + itm + mlm, "loss_itc": itc, "loss_itm": itm, "loss_mlm": mlm}
        return losses | {"itm_logits": logits, "sim_i2t": similarity}


class BlipPretrain(_Pretrain):
    def __init__(self, seed=0):
        torch.manual_seed(seed)
        super().__init__(VisionTransformerEncoder(), XBertEncoder())
        self.tokenizer.enc_token_id = ENC
        self.text_decoder = nn.Linear(WIDTH, WORDS)

    def forward(self, samples):
        with torch.no_grad():
            self.temp.clamp_(0.001, 0.5)
        image, text = samples["image"], self.tokenizer(samples["text_input"], max_length=self.max_txt_len)
        seen = self.visual_encoder.forward_features(image)
        words = self.text_encoder.forward_text(text).last_hidden_state
        itc, similarity = self.contrast(image, seen, words)
        ids = text.input_ids.clone()
        ids[:, 0] = self.tokenizer.enc_token_id
        fused = self.text_encoder(
            ids,
            attention_mask=text.attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2]).long(),
            return_dict=True,
        ).last_hidden_state
        logits = self.itm_head(fused[:, 0])
        itm = F.cross_entropy(logits, torch.ones(len(image)).long())
        lm = F.cross_entropy(self.text_decoder(words[:, :-1]).flatten(0, 1), text.input_ids[:, 1:].flatten())
        losses = {"loss": itc + itm + lm, "loss_itc": itc, "loss_itm": itm, "loss_lm": lm}
        return losses | {"itm_logits": logits, "sim_i2t": similarity}
