//! `Metadata` as Python sees it.

use std::hash::{DefaultHasher, Hash, Hasher};

use orkestra::{
    clock::Timestamp,
    message::{ActorType, LinkId, Metadata as CoreMetadata, MetadataFields, parse_message_id},
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};
use uuid::Uuid;

use crate::{convert, errors};

/// Who sent a message, when, and what it belongs to. Immutable; strings are made when they are asked for.
#[pyclass(
    frozen,
    freelist = 64,
    module = "orkestra._orkestra",
    name = "Metadata"
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Metadata(pub(crate) CoreMetadata);

fn link<'py>(py: Python<'py>, link: &LinkId) -> Bound<'py, PyString> {
    match link {
        LinkId::Uuid(id) => convert::uuid(py, *id),
        LinkId::Text(text) => PyString::new(py, text),
    }
}

#[pymethods]
impl Metadata {
    /// Makes metadata by hand, for tests and for messages from outside.
    #[new]
    #[pyo3(signature = (*, correlation_id, causation_id=None, actor_id=None, actor_type="system", source=None, issued_at))]
    fn new(
        correlation_id: String,
        causation_id: Option<String>,
        actor_id: Option<String>,
        actor_type: &str,
        source: Option<String>,
        issued_at: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let issued_at = convert::timestamp(issued_at)?;
        let fields = MetadataFields {
            correlation_id: Some(correlation_id),
            causation_id,
            actor_id,
            actor_type: Some(actor_type.to_owned()),
            source,
        };
        let metadata = fields
            .resolve(Uuid::nil(), issued_at, None)
            .map_err(|error| errors::raise(&error))?;
        Ok(Self(metadata))
    }

    /// Links a whole chain of messages.
    #[getter]
    fn correlation_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        link(py, &self.0.correlation_id)
    }

    /// The message that caused this one, `None` for the first of a chain.
    #[getter]
    fn causation_id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.0.causation_id.as_ref().map(|id| link(py, id))
    }

    /// Who acts.
    #[getter]
    fn actor_id(&self) -> Option<&str> {
        self.0.actor_id.as_deref()
    }

    /// `user`, `system`, `expert`, `scheduler` or another lower-case word.
    #[getter]
    fn actor_type(&self) -> &str {
        self.0.actor_type.as_str()
    }

    /// Where it came from.
    #[getter]
    fn source(&self) -> Option<&str> {
        self.0.source.as_deref()
    }

    /// When it was sent, an aware `datetime` in UTC.
    #[getter]
    fn issued_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.0.issued_at)
    }

    /// Metadata for a message caused by `causation_id`: correlation, actor and source stay.
    ///
    /// `issued_at` is the time of the new message, by default now.
    #[pyo3(signature = (causation_id, issued_at=None))]
    fn derive(&self, causation_id: &str, issued_at: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let id = parse_message_id(causation_id).map_err(|error| errors::raise(&error))?;
        let now = match issued_at {
            Some(time) => convert::timestamp(time)?,
            None => convert::now(),
        };
        Ok(Self(self.0.derive(id, now)))
    }

    /// The fields as a dict, as they stand in JSON.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("correlation_id", self.correlation_id(py))?;
        dict.set_item("causation_id", self.causation_id(py))?;
        dict.set_item("actor_id", self.actor_id())?;
        dict.set_item("actor_type", self.actor_type())?;
        dict.set_item("source", self.source())?;
        dict.set_item("issued_at", self.0.issued_at.to_string())?;
        Ok(dict)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self == other
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let mut parts = vec![format!("correlation_id='{}'", self.0.correlation_id)];
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                parts.push(format!("{name}='{value}'"));
            }
        };
        add(
            "causation_id",
            self.0.causation_id.as_ref().map(ToString::to_string),
        );
        add("actor_id", self.0.actor_id.as_deref().map(str::to_owned));
        if self.0.actor_type != ActorType::System {
            add("actor_type", Some(self.0.actor_type.to_string()));
        }
        add("source", self.0.source.as_deref().map(str::to_owned));
        add("issued_at", Some(self.0.issued_at.to_string()));
        format!("Metadata({})", parts.join(", "))
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let py = slf.py();
        let make = py
            .import("orkestra._orkestra")?
            .getattr("metadata_from_dict")?;
        Ok((make, (slf.get().to_dict(py)?,)))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

/// Metadata from what `Metadata.to_dict` gave.
#[pyfunction]
pub(crate) fn metadata_from_dict(fields: &Bound<'_, PyDict>) -> PyResult<Metadata> {
    let text = |name: &str| -> PyResult<Option<String>> {
        fields
            .get_item(name)?
            .filter(|value| !value.is_none())
            .map(|value| value.extract())
            .transpose()
    };
    let issued_at = text("issued_at")?
        .and_then(|time| Timestamp::parse(&time))
        .unwrap_or_default();
    let fields = MetadataFields {
        correlation_id: text("correlation_id")?,
        causation_id: text("causation_id")?,
        actor_id: text("actor_id")?,
        actor_type: text("actor_type")?,
        source: text("source")?,
    };
    fields
        .resolve(Uuid::nil(), issued_at, None)
        .map(Metadata)
        .map_err(|error| errors::raise(&error))
}
