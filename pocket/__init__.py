"""The pocket pair: a tiny actor and a tiny critic for step-by-step arithmetic word problems."""
