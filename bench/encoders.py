#!/usr/bin/env python3
"""Times whole BigBird-base and Longformer-base encoders of transformers on one GPU, as they come and accelerated.

    python3 bench/encoders.py [--batch 8 32] [--out FILE.json]

Random weights, fp16, no gradients; lengths uniform in 768 to 4096, padded to the longest as each model needs it. Attention
is what a layer's attention module takes on the GPU without its projections of hidden states, which are the same in both.
"""

import argparse
import statistics
import sys

import torch
from provenance import commit
from python_gpu import Results

KINDS = ("bigbird", "longformer")
BASE = dict(vocab_size=1000, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)


def model_of(kind):
    import transformers

    if kind == "bigbird":
        config = transformers.BigBirdConfig(**BASE, attention_type="block_sparse", max_position_embeddings=4096)
        return transformers.BigBirdModel(config, add_pooling_layer=False)
    config = transformers.LongformerConfig(**BASE, attention_window=512, max_position_embeddings=4098)
    return transformers.LongformerModel(config, add_pooling_layer=False)


def inputs_of(kind, lengths):
    step = 64 if kind == "bigbird" else 512
    top = (max(lengths) + step - 1) // step * step
    positions = torch.arange(top, device="cuda")[None]
    inputs = {
        "input_ids": torch.randint(5, 1000, (len(lengths), top), device="cuda"),
        "attention_mask": (positions < torch.tensor(lengths, device="cuda")[:, None]).long(),
    }
    if kind == "longformer":
        inputs["global_attention_mask"] = (positions < 1).long().expand(len(lengths), -1).contiguous()
    return inputs


class Stopwatch:
    """Milliseconds on the GPU inside attention modules and inside their projections, of one forward pass."""

    def __init__(self, model):
        self.spans = {"modules": [], "projections": []}
        self.handles = []
        for module in model.modules():
            if any(base.__name__ in ("BigBirdBlockSparseAttention", "LongformerSelfAttention") for base in type(module).__mro__):
                self._watch(module, "modules")
                for child in module.children():
                    if isinstance(child, torch.nn.Linear):
                        self._watch(child, "projections")

    def _watch(self, module, what):
        def before(*_):
            self.spans[what].append([torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)])
            module.span = self.spans[what][-1]
            module.span[0].record()

        def after(*_):
            module.span[1].record()

        self.handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def attention_ms(self, call):
        for spans in self.spans.values():
            spans.clear()
        call()
        torch.cuda.synchronize()
        totals = {what: sum(begin.elapsed_time(end) for begin, end in spans) for what, spans in self.spans.items()}
        return totals["modules"] - totals["projections"]

    def remove(self):
        for handle in self.handles:
            handle.remove()


def timed(call, rounds):
    """Median milliseconds of whole calls, by events."""
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def measure(results, kind, batch, rounds):
    from harrier.integrations import transformers as integration

    generator = torch.Generator().manual_seed(batch)
    lengths = torch.randint(768, 4097, (batch,), generator=generator).tolist()
    torch.manual_seed(batch)
    model = model_of(kind).to("cuda", torch.float16).eval()
    inputs = inputs_of(kind, lengths)
    shown = inputs["attention_mask"].bool()

    def call():
        with torch.no_grad():
            return model(**inputs).last_hidden_state

    whole, attention, outputs = {}, {}, {}
    for system in ("transformers", "harrier"):
        if system == "harrier":
            integration.accelerate(model)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        outputs[system] = call()[shown].double()
        for _ in range(3):
            call()
        whole[system] = timed(call, rounds)
        watch = Stopwatch(model)
        attention[system] = statistics.median(watch.attention_ms(call) for _ in range(max(3, rounds // 2)))
        watch.remove()
        results.add(model=kind, batch=batch, tokens=sum(lengths), system=system, ms=whole[system],
                    attention_ms=attention[system], gib=torch.cuda.max_memory_allocated() / 2**30)
    difference = outputs["harrier"] - outputs["transformers"]
    results.add(model=kind, batch=batch, whole_speedup=whole["transformers"] / whole["harrier"],
                attention_speedup=attention["transformers"] / attention["harrier"],
                difference=(difference.norm() / outputs["transformers"].norm()).item())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", nargs="*", type=int, default=[8, 32])
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", help="write the rows to this file")
    parser.add_argument("--commit", default=None, help="what was built, where git is not at hand")
    arguments = parser.parse_args()
    results = Results(arguments.out, arguments.commit or commit())
    for batch in arguments.batch:
        for kind in arguments.kinds:
            try:
                measure(results, kind, batch, arguments.rounds)
            except Exception as error:  # a model that does not run is a result too
                results.add(model=kind, batch=batch, failed=str(error)[:300])
            torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
