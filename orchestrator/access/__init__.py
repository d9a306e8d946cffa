"""Access: which requests are served, how often, for how many tokens a day, and how many of them at a time.

With a file of keys, the routes that cost something require a key. The key names its tenant, and the tenant may have a rate
of requests and a daily quota of tokens, both counted in Redis so that every orchestrator counts the same. A limit that
cannot be checked refuses the request. The admission queue applies with and without keys.
"""

from orchestrator.access.admission import AdmissionQueue
from orchestrator.access.auth import AuthMiddleware
from orchestrator.access.keys import Keys, Tenant, digest, generate_key
from orchestrator.access.quotas import TenantQuotas, TokenQuota

__all__ = ["AdmissionQueue", "AuthMiddleware", "Keys", "Tenant", "TenantQuotas", "TokenQuota", "digest", "generate_key"]
