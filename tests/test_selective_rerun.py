"""What CI expects to rerun follows from params.yaml, whatever models and input sets it has."""

import runpy
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

choose_input_set = runpy.run_path(str(Path(__file__).parents[1] / ".ci/selective_rerun.py"))["choose_input_set"]
SETS = ["coarse", "fine", "finest"]


@given(
    st.sets(st.sampled_from(SETS), min_size=1),
    st.dictionaries(
        st.sampled_from("abcdefgh"), st.tuples(st.sampled_from(SETS), st.sampled_from(["forecast", "own"]))
    ),
)
def test_the_input_set_with_the_fewest_models_but_some_is_chosen(sets, lines):
    lines = {model: line for model, line in lines.items() if line[0] in sets}
    models = {model: {"inputs": name, "task": task} for model, (name, task) in lines.items()}
    chosen, stages = choose_input_set({"inputs": dict.fromkeys(sets), "models": models})

    users = [model for model, (name, _) in lines.items() if name == chosen]
    counts = [sum(name == other for name, _ in lines.values()) for other in sets]
    assert len(users) == min(filter(None, counts), default=0)
    assert {stage for stage in stages if "@" in stage} == {
        f"inputs@{chosen}",
        *(f"train@{model}" for model in users),
        *(f"evaluate@{model}" for model in users),
    }
    assert {stage for stage in stages if "@" not in stage} == {
        "check",
        *(f"report_{lines[m][1]}" for m in users),
        *(["index"] if users else []),
    }
