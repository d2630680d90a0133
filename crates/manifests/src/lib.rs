//! Settings and policy documents, read and written in one way by mesa-preview and mesa-scan.
//!
//! A [`Source`] is a file, standard input or an option. It holds [objects](Source::objects), among them the
//! [settings](Source::settings) or the [policy](Source::policy) that a command needs; YAML is read as `kubectl`
//! reads it. A [`Policy`] is written by [`Policy::to_yaml`], any other value by [`to_yaml`] and [`to_json`].
//!
//! Names in files may hold anything. [`printable`] makes them safe for a terminal and for a comment, and the
//! [`console`] does so with every error. It is here because both commands print what is said of documents in the same
//! way.

pub mod console;
mod policy;
mod source;
mod text;
mod yaml;

pub use policy::{
    Kind, LabelSelector, LabelSelectorRequirement, MatchCondition, Metadata, Mode, POLICY_MODULE,
    Policy, Rule, Spec,
};
pub use source::{Source, SourceError};
pub use text::printable;
pub use yaml::{SyntaxError, WriteError, to_json, to_yaml};
