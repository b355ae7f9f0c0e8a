//! Panics: a place where one may happen without taking the worker down, and the words of one. Reading a model
//! runs other people's parsers over files that anybody may have made; what panics there has not touched a tensor
//! of the engine's. Everywhere else on the engine thread a panic still ends the process.

use super::backend::EngineError;
use sdrest_proto::{
    bounds::ModelName,
    error::{ErrorCode, Fault},
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Reads something of model `name`; a panic is the model's fault and nobody else's.
pub(super) fn guarded<T>(
    name: &ModelName,
    read: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let message =
            format!("the files of the model `{name}` cannot be read: they break their reader");
        let cause = format!("a panic while `{name}` was read: {}", words(panic.as_ref()));
        Err(EngineError::Job { fault: Fault::new(ErrorCode::ModelCorrupt, message), cause })
    })
}

/// The first line of a panic: torch's own texts go on with a C++ stack.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_a_model_is_read_is_the_models_fault() {
        let name = ModelName::try_from("m".to_owned()).unwrap();
        let read: Result<(), _> = guarded(&name, || panic!("range end index 30\nand a stack"));
        let Err(EngineError::Job { fault, cause }) = read else { panic!("no fault of the job") };
        assert_eq!(fault.code, ErrorCode::ModelCorrupt);
        assert!(fault.message.contains("`m`") && !fault.message.contains("range"), "{fault}");
        assert!(cause.ends_with("range end index 30"), "{cause}");
        assert_eq!(guarded(&name, || Ok(7)).unwrap(), 7);
    }
}
