//! Words and what becomes of them, in tables.

use super::*;

/// A tool with one of everything; nothing is required.
const ALL: &str = r##"{"type":"object","properties":{
    "text":{"type":"string"},"count":{"type":"integer"},"ratio":{"type":"number"},"on":{"type":"boolean"},
    "list":{"type":"array","items":{"type":"integer"}},"words":{"type":"array","items":{"type":"string"}},
    "any list":{"type":"array"},"map":{"type":"object"},"nil":{"type":"null"},
    "mode":{"enum":["fast","slow",3,null]},"fixed":{"const":"x"},
    "maybe":{"anyOf":[{"type":"string"},{"type":"null"}]},"either":{"type":["string","integer"]},
    "many":{"anyOf":[{"type":"array","items":{"type":"string"}},{"type":"null"}]},
    "oneOrMany":{"oneOf":[{"type":"array","items":{"type":"string"}},{"type":"string"}]},
    "colour":{"$ref":"#/$defs/Colour"},"wrapped":{"allOf":[{"$ref":"#/$defs/Colour"}],"default":"red"},
    "loop":{"$ref":"#/properties/loop"},"free":{},"odd":true},
    "$defs":{"Colour":{"type":"string","enum":["red","green"]}}}"##;

fn made(words: &[&str], schema: &str) -> Result<Arguments, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    object(&words, &Parameters::of_tool(schema), "the tool")
}

#[test]
fn s3_23_values_are_typed_by_the_schema() {
    // Better than guessing by the looks of a value: a text of digits stays a text.
    let check = |word: &str, expected: &str| {
        let made = made(&[word], ALL).unwrap_or_else(|error| panic!("{word}: {error}"));
        let (_, value) = made.json.split_once(':').expect("a member");
        assert_eq!(value, format!("{expected}}}"), "{word}");
    };
    check("text=5", r#""5""#);
    check("text=true", r#""true""#);
    check("text=a=b \"c\"", r#""a=b \"c\"""#);
    check("text=", r#""""#);
    check("count=5", "5");
    check("count=-0", "-0");
    check("count=123456789012345678901234567890", "123456789012345678901234567890");
    check("count=2.0", "2.0");
    check("ratio=1.50", "1.50");
    check("ratio=1e400", "1e400");
    check("on=true", "true");
    check("list=[1, 2]", "[1, 2]");
    check("list=1", "[1]");
    check("words=1", r#"["1"]"#);
    check("any list=1", "[1]");
    check("map={\"a\":1.50}", r#"{"a":1.50}"#);
    check("nil=null", "null");
    check("mode=fast", r#""fast""#);
    check("mode=3", "3");
    check("mode=null", "null");
    check("fixed=x", r#""x""#);
    check("maybe=null", "null");
    check("maybe=5", r#""5""#);
    check("either=5", "5");
    check("either=five", r#""five""#);
    check("many=a", r#"["a"]"#);
    check("many=null", "null");
    check("oneOrMany=a", r#""a""#);
    check("oneOrMany=[\"a\"]", r#"["a"]"#);
    check("colour=red", r#""red""#);
    check("wrapped=green", r#""green""#);
    check("loop=x", r#""x""#);
    // Where the schema is silent: JSON literal, bool, null, integer, decimal, else text.
    for (word, expected) in [("5", "5"), ("1.5", "1.5"), ("true", "true"), ("null", "null"), ("[1]", "[1]")] {
        check(&format!("free={word}"), expected);
        check(&format!("odd={word}"), expected);
        check(&format!("unheard_of={word}"), expected);
    }
    check("free=two words", r#""two words""#);
    check("free=\"5\"", r#""5""#);
}

#[test]
fn a_key_that_stands_several_times_is_a_list() {
    assert_eq!(made(&["list=1", "list=[2,3]", "on=true"], ALL).expect("a list").json, r#"{"list":[1,2,3],"on":true}"#);
    assert_eq!(made(&["words=]", "words=a"], ALL).expect("a list").json, r#"{"words":["]","a"]}"#);
    assert!(made(&["text=a", "text=b"], ALL).expect_err("two texts").contains("more than once"));
}

#[test]
fn what_does_not_fit_is_named_with_its_type() {
    let check = |words: &[&str], schema: &str, parts: &[&str]| {
        let error = made(words, schema).expect_err("it should not fit");
        parts.iter().for_each(|part| assert!(error.contains(part), "{words:?}: {part} is not in: {error}"));
    };
    check(&["count=five"], ALL, &["`count`", "integer", "`five`"]);
    check(&["count=1.5"], ALL, &["integer"]);
    check(&["count= 5"], ALL, &["integer"]);
    check(&["ratio=0x10"], ALL, &["number"]);
    check(&["on=yes"], ALL, &["boolean"]);
    check(&["list=a"], ALL, &["array of integer"]);
    check(&["map=a"], ALL, &["object"]);
    check(&["mode=fats"], ALL, &["fast | slow | 3 | null", "did you mean `fast`?"]);
    check(&["colour=blue"], ALL, &["red | green"]);
    check(&[r#"{"count":"5"}"#], ALL, &["`count`", "integer"]);
    check(&["{count:5}"], ALL, &["JSON object"]);
    check(&["text=a", "b"], ALL, &["`b`", "quotes"]);
    check(&["hello"], ALL, &["text=…"]);
    check(&["hello"], r#"{"type":"object"}"#, &["no arguments"]);
    let closed = r#"{"properties":{"text":{}},"additionalProperties":false}"#;
    check(&["txet=1"], closed, &["`txet`", "did you mean `text`?"]);
    check(&[r#"{"other":1}"#], closed, &["`other`", "there is `text`"]);
    let doubted = made(&["txt=1"], r#"{"properties":{"text":{}}}"#).expect("it may be allowed");
    assert!(doubted.json == r#"{"txt":1}"# && doubted.doubts[0].contains("did you mean `text`?"), "{doubted:?}");
}

#[test]
fn s3_22_a_json_object_is_taken_as_it_is() {
    let text = r#"{ "count" : 2.0, "text":"é\u00e9", "b": [1.50], "nil":null}"#;
    assert_eq!(made(&[text], ALL).expect("an object").json, text);
}

#[test]
fn s3_25_and_s3_26_a_bare_value_goes_where_the_schema_says() {
    // Better than by the name of the tool or the looks of the value, which guess wrong for all but a few.
    let check = |words: &[&str], schema: &str, expected: &str| {
        assert_eq!(made(words, schema).expect("arguments").json, expected, "{words:?}");
    };
    let fetch = r#"{"properties":{"url":{"type":"string"},"max":{"type":"integer"},"raw":{"type":"boolean"}},"required":["url"]}"#;
    check(&["https://example.com/?a=b"], fetch, r#"{"url":"https://example.com/?a=b"}"#);
    check(&["what is it"], fetch, r#"{"url":"what is it"}"#);
    check(&["more", "than", "three", "words"], fetch, r#"{"url":"more than three words"}"#);
    check(&["5"], r#"{"properties":{"n":{"type":"integer"},"x":{}},"required":["n"]}"#, r#"{"n":5}"#);
    check(&["5"], r#"{"properties":{"text":{"type":"string"}}}"#, r#"{"text":"5"}"#);
    let two = r#"{"properties":{"path":{"type":"string"},"content":{"type":"string"}},"required":["path","content"]}"#;
    assert!(made(&["/a", "text"], two).expect_err("which?").contains("path=… content=…"));
    let mixed = r#"{"properties":{"n":{"type":"integer"},"path":{"type":"string"}},"required":["n","path"]}"#;
    assert!(made(&["/a"], mixed).expect_err("n").contains("needs `n` (integer)"));
}

#[test]
fn s3_27_nothing_is_made_up() {
    // Better than invented defaults: what is missing is named, and nothing is called.
    let schema = r#"{"properties":{"text":{"type":"string","description":"What to say"},"n":{"type":"integer","default":3}},"required":["text"]}"#;
    let error = made(&[], schema).expect_err("it is missing");
    assert_eq!(error, "the tool needs `text` (string): What to say");
    assert_eq!(made(&["{}"], schema).expect_err("it is missing"), error);
    assert!(made(&["txt=a"], schema).expect_err("it is missing").contains("did you mean `text`?"));
    assert_eq!(made(&["text=a"], schema).expect("arguments").json, r#"{"text":"a"}"#, "defaults are the server's");
    assert_eq!(made(&[], ALL).expect("nothing is required").json, "{}");
    assert_eq!(made(&[], "null").expect("no schema").json, "{}");
}

#[test]
fn what_a_parameter_is_in_words() {
    let parameters = Parameters::of_tool(ALL);
    let kind = |name: &str| parameters.kind(parameters.get(name).expect("a parameter"));
    assert_eq!(kind("list"), "array of integer");
    assert_eq!(kind("many"), "array of string | null");
    assert_eq!(kind("either"), "string | integer");
    assert_eq!((kind("colour"), kind("free")), ("red | green".to_owned(), "any".to_owned()));
    let names: Vec<&str> = parameters.all.iter().take(3).map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["text", "count", "ratio"], "the order is the schema's");
}
