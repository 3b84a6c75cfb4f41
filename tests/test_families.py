from dataclasses import replace

import gymnasium as gym
import pytest

from agentgym_prm.agents.prompts import PROMPTS
from agentgym_prm.envs import ALFWORLD, ENV_IDS, WEBSHOP, WIKISEARCH
from agentgym_prm.errors import UsageError
from agentgym_prm.families import family_of, parse_arguments
from agentgym_prm.rollout import collect


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_what_is_said_of_an_environment_is_true(env_id):
    """Its settings are arguments, its splits exist, its experts play, its prompt is there."""
    family = family_of(env_id)
    assert {family.prompt, family.chat_prompt} <= {*PROMPTS}
    if not family.settings:
        return
    small = {"difficulty": "small", "max_episode_steps": 6}
    for split in (family.splits.train, family.splits.development, family.splits.test):
        for expert in (family.text_expert, *family.privileged):
            envs = gym.make_vec(env_id, num_envs=1, split=split, expert=expert, **small)
            assert set(family.settings) <= {*envs.envs[0].__init__.__kwdefaults__}
            _, infos = envs.reset(seed=0)
            assert infos["expert_action"][0]
            envs.close()
    envs = gym.make_vec(env_id, num_envs=2, split=family.splits.train, **small)
    assert all(trajectory.steps for trajectory in collect(family.make_text_expert(6), envs, [0, 1]))
    envs.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_command_that_is_listed_for_choosing_can_be_given(env_id):
    """Negative control: ``search[<keywords>]``, which a full shop lists otherwise, finds nothing."""
    env = gym.make(env_id, **family_of(env_id).choices).unwrapped
    _, info = env.reset(seed=0)
    for command in info["admissible_commands"]:
        env.reset(seed=0)
        observation, _, _, _, after = env.step(command)
        assert after["valid_action"]
        assert "(Total results: 0)" not in observation
    if env_id == WEBSHOP:
        env.reset(seed=0)
        assert "(Total results: 0)" in env.step("search[<keywords>]")[0]


@pytest.mark.parametrize("more", [{"difficulty": "full"}, {"env_args": ("searches=pattern",)}])
def test_a_policy_that_chooses_is_refused_where_a_pattern_stands_for_all_searches(more):
    pytest.importorskip("torch")
    from agentgym_prm.pipeline import PipelineConfig, run_pipeline
    from agentgym_prm.stages.config import PolicyConfig
    from agentgym_prm.stages.policy import check_choices

    config = PipelineConfig.of("tiny", WEBSHOP)
    check_choices(config.policy, config.games)
    games = replace(config.games, **more)
    with pytest.raises(UsageError, match=r"search\[<keywords>\].*--games.env-args searches=suggested"):
        run_pipeline("never made", replace(config, games=games))
    check_choices(PolicyConfig(mode="generate"), games)
    check_choices(config.policy, replace(games, env_args=("searches=suggested",)))


def test_a_policy_that_chooses_is_refused_where_nothing_is_listed():
    pytest.importorskip("torch")
    from agentgym_prm.pipeline import PipelineConfig
    from agentgym_prm.stages.policy import check_choices

    config = PipelineConfig.of("tiny", WIKISEARCH)
    check_choices(config.policy, config.games)
    games = replace(config.games, difficulty="full")
    with pytest.raises(UsageError, match=r"none are: add --games\.env-args suggestions=true"):
        check_choices(config.policy, games)
    check_choices(config.policy, replace(games, env_args=("suggestions=true",)))


def test_an_environment_is_known_by_its_id_whichever_module_registers_it():
    assert family_of(f"agentgym_prm:{ALFWORLD}") is family_of(ALFWORLD)
    assert family_of("somebody/Else-v0").settings == ()


def test_arguments_are_json_or_text():
    given = ["a=1", "b=text", "c=true", "d=null", "e=a=b", "f="]
    assert parse_arguments(given) == {"a": 1, "b": "text", "c": True, "d": None, "e": "a=b", "f": ""}


@pytest.mark.parametrize("wrong", ["goals", "=human", "two words=1"])
def test_arguments_without_a_name_are_refused(wrong):
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_arguments([wrong])


def test_the_defaults_of_a_run_follow_the_environment():
    pytest.importorskip("torch")
    from agentgym_prm.pipeline import PipelineConfig

    assert PipelineConfig.of("tiny") == PipelineConfig()
    for env_id in ENV_IDS:
        family, config = family_of(env_id), PipelineConfig.of("tiny", env_id)
        splits = (config.games.train_split, config.development.split, config.games.eval_split)
        assert splits == (family.splits.train, family.splits.development, family.splits.test)
        assert (config.policy.prompt, config.demonstrations.expert) == (family.prompt, family.text_expert)
        assert PipelineConfig.of("somebody/model", env_id).policy.prompt == family.chat_prompt
