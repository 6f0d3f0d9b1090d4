"""Gymnasium environments of this package, registered when ``read_env`` is imported.

Gymnasium 1.x does not look for plug-ins through entry points: an environment exists once its package has
registered it. The class is given as a string, so its module (and torch) is loaded by the first ``gym.make``.
"""

import gymnasium

__all__ = ["ENVIRONMENTS", "VECTOR_ENVIRONMENTS"]

#: Registered id -> the class, as a string.
ENVIRONMENTS = {
    "ReadEnv/Distillation-v0": "read_env.envs.distillation:DistillationEnv",
    "ReadEnv/Surrogate-v0": "read_env.envs.surrogate:SurrogateEnv",
}
#: Registered id -> the class of its vector environment, for those that have one of their own.
VECTOR_ENVIRONMENTS = {"ReadEnv/Surrogate-v0": "read_env.envs.surrogate_vector:SurrogateVectorEnv"}

# No max_episode_steps: an episode ends with its budget, and a snapshot would not hold the state of a time-limit wrapper.
for _id, _entry_point in ENVIRONMENTS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(id=_id, entry_point=_entry_point, vector_entry_point=VECTOR_ENVIRONMENTS.get(_id))
