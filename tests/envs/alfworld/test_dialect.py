import pytest

from agentgym_prm.envs.alfworld.dialect import CURRENT, Dialect, domain_text, grammar_text, recognise, split_task
from agentgym_prm.errors import GameFormatError


def current() -> tuple[str, str]:
    return domain_text(), split_task(grammar_text("put some apple on sidetable."))[1]


def older() -> tuple[str, str]:
    """The first release: other put and arrival texts, no help."""
    domain, grammar = current()
    domain = domain[: domain.index("  (:action help")] + ")"
    grammar = grammar[: grammar.index("action help {")]
    grammar = grammar.replace("move {o} to {r}", "put {o} in/on {r}")
    grammar = grammar.replace("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}.")
    return domain, grammar.replace("You arrive at {r.name}.", "You arrive at {lend.name}.")


def test_both_releases_are_recognised():
    assert recognise(*current()) == CURRENT
    assert recognise(*older()) == Dialect(put_grammar="put", arrival_names_location=True, has_help=False)


def test_comments_and_layout_of_the_domain_do_not_matter():
    domain, grammar = current()
    reformatted = "; a comment (with parens\n" + domain.replace("(:action", "\n\n(:action").replace("(and ", "(and\t")
    assert recognise(reformatted, grammar) == CURRENT


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("SinkBasinType", "BathType", "PDDL domain: :action CleanObject"),
        ("(isHot ?o) (not (isCool ?o))", "(isHot ?o)", "PDDL domain: :action HeatObject"),
        ("(:action look", "(:action glance", "PDDL domain: :action look"),
        ("(sliceable ?o - object)", "", "PDDL domain: :predicates"),
    ],
)
def test_a_changed_domain_is_refused_by_the_name_of_the_part(old, new, part):
    domain, grammar = current()
    assert old in domain
    with pytest.raises(GameFormatError, match=part) as caught:
        recognise(domain.replace(old, new), grammar)
    assert "engine='textworld'" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("is closed.", "is shut.", "rule 'examineReceptacle.feedback'"),
        ('"use {o}"', '"toggle {o}"', "action ToggleObject"),
        (", and ", " and ", "rule 'list_last_separator'"),
        ("Welcome to TextWorld", "Welcome home", "rule 'intro'"),
        ("examine (something)", "examine (anything)", "action help"),
    ],
)
def test_a_changed_grammar_is_refused_by_the_name_of_the_part(old, new, part):
    domain, grammar = current()
    assert old in grammar
    with pytest.raises(GameFormatError, match=part):
        recognise(domain, grammar.replace(old, new))


def test_the_error_shows_both_forms_where_they_part():
    domain, grammar = current()
    with pytest.raises(GameFormatError, match=r"expected '.*is closed.*', got '.*is shut"):
        recognise(domain, grammar.replace("is closed.", "is shut."))


def test_rules_that_no_action_reaches_are_ignored():
    domain, grammar = current()
    assert recognise(domain, grammar.replace('"intro": [', '"unused": [{"rhs": "TODO"}],\n  "intro": [')) == CURRENT


def test_damaged_texts_are_refused():
    domain, grammar = current()
    with pytest.raises(GameFormatError, match="parentheses do not balance"):
        recognise(domain[:2000], grammar)
    with pytest.raises(GameFormatError, match="text grammar is damaged"):
        recognise(domain, grammar.replace('"intro": [', '"intro": '))


def test_the_task_sentence_round_trips_with_quotes_and_other_scripts():
    for task in ("put a mug in shelf.", 'a "quoted" task.', "コップを棚に置く。"):
        assert split_task(grammar_text(task))[0] == task


def test_a_task_sentence_with_grammar_syntax_is_refused():
    with pytest.raises(GameFormatError, match="grammar syntax"):
        split_task(grammar_text("put #intro# in shelf."))
    with pytest.raises(GameFormatError, match="no rule whose text starts with 'Your task is to: '"):
        split_task("grammar without a task")
