"""The Gymnasium environments, known to ``gym.make`` once ``read_env`` is imported.

Gymnasium 1.x no longer looks for plug-ins through entry points, so an
environment exists from the moment its package registers it. Registering needs
``gymnasium``, whose import (with numpy) costs more than ``import read_env`` is
allowed to. Hence ``register_on_import``: at once where Gymnasium is loaded
already, otherwise right after somebody loads it. Either order of the two
imports works, and so does ``gym.make("read_env:ReadEnv/Distillation-v0")``.

Every ``import read_env`` runs this module: keep heavy imports out of it.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["ENVIRONMENTS", "register_environments", "register_on_import"]

#: Registered id -> the class, as a string: the module loads at the first ``gym.make``.
ENVIRONMENTS = {
    "ReadEnv/Distillation-v0": "read_env.envs.distillation:DistillationEnv",
}


def register_environments() -> None:
    """Put every environment of this package into Gymnasium's registry; repeating it is harmless.

    No ``max_episode_steps``: an episode ends with its budget, and a time-limit
    wrapper would hold state that a snapshot doesn't know of.
    """
    from gymnasium.envs.registration import register, registry

    for env_id, entry_point in ENVIRONMENTS.items():
        if env_id not in registry:
            register(id=env_id, entry_point=entry_point)


def register_on_import() -> None:
    """Register now if Gymnasium is loaded, else as soon as it is."""
    if "gymnasium" in sys.modules:
        register_environments()
    elif not any(isinstance(finder, _GymnasiumFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _GymnasiumFinder())


class _GymnasiumFinder(MetaPathFinder):
    """Finds nothing itself; appends the registration to the loading of ``gymnasium``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)  # or the next line would come back here
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, self)  # not installed (yet): keep waiting
            return spec
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            load(module)
            register_environments()

        spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec
