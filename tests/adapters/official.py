"""Tiny stand-ins for the official ALBEF and X-VLM, with their attribute names and call signatures."""

from functools import partial
from types import SimpleNamespace

import timm.models.vision_transformer as timm_vit
import torch
import torch.nn.functional as F
from torch import nn

from tests.adapters.host_checks import SIDE, images, padded

WORDS, WIDTH, PATCH, EMBED = 30, 16, 8, 12


class Attention(nn.Module):
    """As in timm 0.4.9: no mask."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attn_drop, self.proj_drop = nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, x, image_atts=None, register_hook=False):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * self.scale
        if image_atts is not None:
            scores = scores + image_atts
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.drop_path = Attention(dim, heads), nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x, register_hook=False, image_atts=None):
        x = x + self.drop_path(self.attn(self.norm1(x), image_atts))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """ALBEF's ViT, and with `local_attn_depth` X-VLM's."""

    def __init__(self, local_attn_depth=0):
        super().__init__()
        self.patch_embed = timm_vit.PatchEmbed(SIDE, PATCH, 3, WIDTH)
        self.num_patch_embed = self.patch_embed.num_patches
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.num_patch_embed, WIDTH))
        self.pos_drop, self.norm = nn.Dropout(0.0), nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, 2) for _ in range(5))
        self.local_attn_depth = local_attn_depth

    def forward(self, x, register_blk=-1, idx_to_group_img=None, image_atts=None):
        x = self.patch_embed(x)
        x = self.pos_drop(torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed)
        if idx_to_group_img is None:
            for block in self.blocks:
                x = block(x)
            return self.norm(x)
        for block in self.blocks[: -self.local_attn_depth]:
            x = block(x)
        atts = torch.cat([image_atts, torch.ones(x.shape[:2], dtype=x.dtype)])
        x = torch.cat([x[idx_to_group_img], x])
        for block in self.blocks[-self.local_attn_depth :]:
            x = block(x, image_atts=(1 - atts)[:, None, None] * -10000.0)
        n = len(idx_to_group_img)
        return self.norm(x)[:n], self.norm(x)[n:]


class SwinTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed, self.norm = nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.LayerNorm(WIDTH)
        last = Block(WIDTH, 2)
        last.input_resolution = (SIDE // PATCH, SIDE // PATCH)
        self.layers = nn.ModuleList([Block(WIDTH, 2), last])

    def forward(self, x, idx_to_group_img=None, image_atts=None):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        whole = torch.cat([x.mean(1, keepdim=True), x], 1)
        if idx_to_group_img is None:
            return whole
        own, weights = x[idx_to_group_img], image_atts[:, 1:, None]
        cls = (weights * own).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return torch.cat([cls, own], 1), whole


class SplitBert(nn.Module):
    """Text layers, and fusion layers that look at an image; `mode` chooses, as in the official xbert."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embeddings, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(64, WIDTH)
        layer = partial(nn.TransformerEncoderLayer, WIDTH, 2, 32, dropout, batch_first=True)
        fusion = partial(nn.TransformerDecoderLayer, WIDTH, 2, 32, dropout, batch_first=True)
        self.text, self.fusion = nn.ModuleList([layer()]), nn.ModuleList([fusion()])

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        encoder_embeds=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        return_dict=None,
        mode="multi_modal",
    ):
        assert return_dict
        assert attention_mask.dtype == torch.long
        padded, x = attention_mask == 0, encoder_embeds
        if mode in ("text", "multi_modal"):
            x = self.embeddings(input_ids) + self.positions.weight[: input_ids.shape[1]]
            for layer in self.text:
                x = layer(x, src_key_padding_mask=padded)
        if mode in ("fusion", "multi_modal"):
            hidden = encoder_attention_mask == 0
            for layer in self.fusion:
                x = layer(x, encoder_hidden_states, tgt_key_padding_mask=padded, memory_key_padding_mask=hidden)
        return SimpleNamespace(last_hidden_state=x)


class BertForMaskedLM(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=WIDTH, fusion_layer=1, vocab_size=WORDS)
        self.bert, self.cls = SplitBert(dropout), nn.Linear(WIDTH, WORDS)


class HostALBEF(nn.Module):
    """The pretraining class of salesforce/ALBEF: `forward(image, text, alpha)` gives the losses MLM, ITA and ITM."""

    def __init__(self, seed=0, dropout=0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.visual_encoder, self.text_encoder = VisionTransformer(), BertForMaskedLM(dropout)
        self.vision_proj, self.text_proj = nn.Linear(WIDTH, EMBED), nn.Linear(WIDTH, EMBED)
        self.temp = nn.Parameter(torch.ones([]) * 0.07)
        self.itm_head = nn.Linear(WIDTH, 2)
        self.visual_encoder_m, self.vision_proj_m = VisionTransformer(), nn.Linear(WIDTH, EMBED)
        for copy, own in ((self.visual_encoder_m, self.visual_encoder), (self.vision_proj_m, self.vision_proj)):
            copy.load_state_dict(own.state_dict())
            copy.requires_grad_(False)
        self.register_buffer("image_queue", F.normalize(torch.randn(EMBED, 4), dim=0))

    def forward(self, image, text, alpha=0):
        with torch.no_grad():
            self.temp.clamp_(0.001, 0.5)
        seen, atts = self.visual_encoder(image), torch.ones(len(image), 17, dtype=torch.long)
        bert = partial(self.text_encoder.bert, attention_mask=text.attention_mask, return_dict=True)
        words = bert(text.input_ids, mode="text").last_hidden_state
        looked = {"encoder_hidden_states": seen, "encoder_attention_mask": atts}
        own = F.normalize(self.vision_proj(seen[:, 0]), dim=-1)
        said = F.normalize(self.text_proj(words[:, 0]), dim=-1)
        with torch.no_grad():
            keys = F.normalize(self.vision_proj_m(self.visual_encoder_m(image)[:, 0]), dim=-1)
            keys = torch.cat([keys, self.image_queue.T])
        target = torch.arange(len(image))
        ita = F.cross_entropy(said @ keys.T / self.temp, target) + F.cross_entropy(own @ said.T / self.temp, target)
        fused = bert(encoder_embeds=words, mode="fusion", **looked).last_hidden_state
        itm = F.cross_entropy(self.itm_head(fused[:, 0]), torch.ones_like(target))
        fused = bert(text.input_ids, **looked).last_hidden_state
        mlm = F.cross_entropy(self.text_encoder.cls(fused).flatten(0, 1), text.input_ids.flatten())
        return mlm, ita / 2, itm


class HostXVLM(nn.Module):
    """The pretraining class of zengyan-97/X-VLM: `forward(image, text_ids, text_atts)` gives ITC, ITM and MLM."""

    def __init__(self, vision=SwinTransformer, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.vision_encoder, self.text_encoder = vision(), BertForMaskedLM()
        self.vision_proj, self.text_proj = nn.Linear(WIDTH, EMBED), nn.Linear(WIDTH, EMBED)
        self.temp = nn.Parameter(torch.ones([]) * 0.07)
        self.itm_head, self.bbox_head = mlp(2), mlp(4)

    def forward(self, image, text_ids, text_atts):
        with torch.no_grad():
            self.temp.clamp_(0.001, 0.5)
        seen, bert = self.vision_encoder(image), partial(self.text_encoder.bert, attention_mask=text_atts)
        words = bert(text_ids, return_dict=True, mode="text").last_hidden_state
        own = F.normalize(self.vision_proj(seen[:, 0]), dim=-1)
        said = F.normalize(self.text_proj(words[:, 0]), dim=-1)
        target = torch.arange(len(image))
        itc = F.cross_entropy(own @ said.T / self.temp, target)
        atts = torch.ones(seen.shape[:2], dtype=torch.long)
        looked = {"encoder_hidden_states": seen, "encoder_attention_mask": atts, "return_dict": True}
        fused = bert(encoder_embeds=words, mode="fusion", **looked).last_hidden_state
        itm = F.cross_entropy(self.itm_head(fused[:, 0]), torch.ones_like(target))
        itm = itm + 0 * self.bbox_head(fused[:, 0]).sum()
        mlm = F.cross_entropy(self.text_encoder.cls(fused).flatten(0, 1), text_ids.flatten())
        return itc, itm, mlm


def mlp(out):
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.LayerNorm(2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, out))


def xvlm_vit():
    return HostXVLM(partial(VisionTransformer, local_attn_depth=4))


HOSTS = {"ALBEF": HostALBEF, "X-VLM (Swin)": HostXVLM, "X-VLM (ViT)": xvlm_vit}


def own_losses(host, seed=0):
    """The host's own losses on four captions, called as its training script does."""
    text, image = texts(4, seed), images(4, seed)
    ids, mask = text.input_ids, text.attention_mask.long()
    own = host.module if hasattr(host, "module") else host
    if hasattr(own, "visual_encoder"):
        return host(image, SimpleNamespace(input_ids=ids, attention_mask=mask), alpha=0.4)
    return host(image, ids, mask)


CLS, MASK, SEP = 1, 2, 3


def texts(n, seed=0):
    """Texts without [SEP] at the end, as these codebases have them, the second token masked."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 7, (n,), generator=generator).tolist()
    rows = [[CLS, *torch.randint(4, WORDS, (k,), generator=generator).tolist()] for k in lengths]
    return padded(rows, pad=0, mask_id=MASK)
