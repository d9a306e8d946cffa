"""The page at `/`: static modules that use `/jobs` and `/solve` like any other client.

The page loads nothing from another host, and shows what models write as text, never as markup.
"""

from orchestrator.page.routes import router

__all__ = ["router"]
