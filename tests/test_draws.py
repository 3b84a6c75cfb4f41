import pytest

from agentgym_prm.draws import mix, uniform


@pytest.mark.parametrize("numbers", [(0,), (1, 2), (7, 0, 2**63, -1, 5)])
def test_mixing_goes_on_from_what_was_mixed_before(numbers):
    for cut in range(len(numbers) + 1):
        before = mix(*numbers[:cut])
        assert mix(*numbers[cut:], after=before) == mix(*numbers)
        assert uniform(*numbers[cut:], after=before) == uniform(*numbers)
