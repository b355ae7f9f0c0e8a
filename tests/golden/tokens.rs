//! Token ids: equal to transformers' `CLIPTokenizer`, padded and cut as `encode_prompt` does. One
//! difference is meant: a control token that is written in a prompt is text.

use crate::{
    probe::{Call, json, model},
    verdict::Verdict,
};
use serde_json::{Value, json as value};

fn tokenize(name: &str, prompts: &Value) -> Vec<Value> {
    let call = Call::new("tokenize").with("model", model(name)).with_text(&prompts.to_string());
    let answer = call.run().unwrap_or_else(|e| panic!("tokenize: {e}"));
    let rows: Value = serde_json::from_slice(&answer).expect("JSON");
    rows.as_array().expect("a list").clone()
}

pub(crate) fn compare(name: &str) {
    let recorded = json("tokens.json");
    let prompts = recorded["prompts"].as_array().expect("prompts");
    let wanted = recorded["ids"][name].as_array().expect("ids");
    let mut verdict = Verdict::new(format!("token ids of {name}"));
    let rows = tokenize(name, &recorded["prompts"]);
    assert_eq!((rows.len(), wanted.len()), (prompts.len(), prompts.len()));
    for ((prompt, got), want) in prompts.iter().zip(rows).zip(wanted) {
        verdict.same(&format!("prompt {prompt}"), &got, want);
    }
    verdict.finish();
}

/// transformers turns `<|endoftext|>` in a prompt into the token that ends prompts; sdrest does not let a
/// prompt end itself.
pub(crate) fn control_tokens_are_text() {
    let prompts = value!(["a<|endoftext|>b", "<|startoftext|>", ""]);
    let rows = tokenize("demo", &prompts);
    let ids = |row: usize| {
        rows[row].as_array().expect("ids").iter().filter_map(Value::as_i64).collect::<Vec<_>>()
    };
    let (begin, end) = (ids(2)[0], ids(2)[1]);
    for row in [0, 1] {
        let row = ids(row);
        let first_end = row.iter().position(|id| *id == end).expect("an end");
        assert!(first_end > 6, "a control token was taken for one: {row:?}");
        assert!(!row[1..].contains(&begin), "a control token was taken for one: {row:?}");
        assert!(row[first_end..].iter().all(|id| *id == end), "{row:?}");
    }
}
