from ollama_tw.grammar import grammar_for
from ollama_tw.output.description import Description
from ollama_tw.output.stream_parser import Call, StreamParser
from ollama_tw.output.tool_choice import CALL_LAYOUT, call_schema


def tool(name: str, parameters: object = None) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_the_schema_of_a_call() -> None:
    tools = [tool("a"), tool("b", {"type": "object", "properties": {"x": {"type": "integer"}}})]
    assert call_schema(tools, ("b",)) == {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": "b"},
                    "arguments": {"type": "object", "properties": {"x": {"type": "integer"}}},
                },
                "required": ["name", "arguments"],
            }
        ]
    }
    assert len(call_schema(tools, ("a", "b"))["anyOf"]) == 2


def test_references_of_a_tool_are_valid_inside_the_larger_schema() -> None:
    parameters = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/X"}, "self": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "$defs": {"X": {"enum": ["one", "two"]}},
    }
    schema = call_schema([tool("a"), tool("b", parameters)], ("a", "b"))
    moved = schema["anyOf"][1]["properties"]["arguments"]["properties"]
    assert moved["x"] == {"$ref": "#/anyOf/1/properties/arguments/$defs/X"}
    assert moved["self"]["anyOf"][0] == {"$ref": "#/anyOf/1/properties/arguments"}
    grammar = grammar_for(schema)
    assert grammar is not None
    assert "one" in grammar


def test_a_forced_call_is_parsed() -> None:
    parser = StreamParser(Description(calls=CALL_LAYOUT), [tool("f", {"properties": {}})])
    events = parser.feed('{"name": "f", "argu') + parser.feed('ments": {"x": 1}}') + parser.finish()
    [call] = [event.call for event in events if isinstance(event, Call)]
    assert (call.function.name, call.function.arguments) == ("f", {"x": 1})
