"""Engines: each runs a model behind the one protocol of `protocol`.

A service names an engine in its settings and gets it from `factory`, which alone knows the concrete engines and imports an
engine's library only when that engine is chosen. Each engine is a package: `llama` (llama.cpp in this process), `vllm` (vLLM
in this process), `openai` (servers over HTTP), `scripted` (no model at all). They share the parts in `generation`.
"""
