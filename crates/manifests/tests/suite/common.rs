use manifests::Source;

/// A file `f` with this text.
pub(crate) fn source(text: &str) -> Source {
    Source {
        name: "f".to_owned(),
        text: text.to_owned(),
    }
}

/// A complaint in one line, with its causes.
pub(crate) fn complaint(error: &dyn std::error::Error) -> String {
    let mut complaint = error.to_string();
    let mut error = error;
    while let Some(cause) = error.source() {
        complaint += &format!(": {cause}");
        error = cause;
    }
    complaint
}
