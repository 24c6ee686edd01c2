"""How `template.yaml` is written: contents at its top, a group for every parameter, loops that tools expand."""

import re

from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions

from tests.contract.template_stack import ROOT, parameters_of_template, source, written

TEXT = (ROOT / "template.yaml").read_text(encoding="utf-8")


def test_the_contents_are_those_of_the_file_in_their_order() -> None:
    contents = re.findall(r"^#   (.+?)  ", TEXT, re.MULTILINE)
    headings = re.findall(r"^  # -{20,} (.+)$", TEXT, re.MULTILINE)
    assert contents == headings


def test_every_parameter_is_in_one_group_and_stands_where_its_group_says() -> None:
    groups = source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert grouped == list(parameters_of_template())
    parameters = TEXT.partition("\nParameters:\n")[2].partition("\nConditions:\n")[0]
    assert re.findall(r"^  # (.+)$", parameters, re.MULTILINE) == [group["Label"]["default"] for group in groups]


def test_tools_expand_the_loops_as_these_tests_do() -> None:
    expanded = expand_language_extensions(written(), {}, enabled=True).expanded_template
    for section in ("Resources", "Outputs"):
        assert list(expanded[section]) == list(source()[section])


def test_every_row_of_a_mapping_is_used() -> None:
    loops = str([value[1] for key, value in written()["Resources"].items() if key.startswith("Fn::ForEach::")])
    for table, rows in written()["Mappings"].items():
        if table == "LogLevels":  # by a parameter
            assert set(rows) == set(parameters_of_template()["LogLevel"]["AllowedValues"])
            continue
        assert not [row for row in rows if f"'{row}'" not in loops], table
