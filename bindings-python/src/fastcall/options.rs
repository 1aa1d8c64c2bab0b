//! The options of a sending.

use orkestra::message::{Metadata as CoreMetadata, MetadataFields, parse_message_id};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    ffi::{self, PyObject},
    prelude::*,
    types::PyDict,
};
use uuid::Uuid;

use crate::{convert, errors, metadata::Metadata};

/// What a sender may say.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) id: Option<Uuid>,
    pub(super) fields: MetadataFields,
    pub(super) has_fields: bool,
    pub(super) metadata: Option<CoreMetadata>,
    pub(super) max_retries: Option<u32>,
    pub(super) timeout: Option<f64>,
}

impl Options {
    /// Reads keyword arguments. `Err(Ok(error))` is for the one who awaits, `Err(Err(error))` is raised at once.
    pub(super) unsafe fn parse(
        py: Python<'_>,
        values: *const *mut PyObject,
        names: *mut PyObject,
        method: &str,
    ) -> Result<Self, Result<PyErr, PyErr>> {
        let mut options = Self::default();
        for i in 0..ffi::PyTuple_Size(names) {
            let name = Bound::from_borrowed_ptr(py, ffi::PyTuple_GetItem(names, i));
            let value = Bound::from_borrowed_ptr(py, *values.offset(i));
            let name: String = name.extract().map_err(Err)?;
            if !options.set(&name, &value, method).map_err(Ok)? {
                return Err(Err(PyTypeError::new_err(format!(
                    "{method}() got an unexpected keyword argument '{name}'"
                ))));
            }
        }
        Ok(options)
    }

    /// Reads a dict of options.
    pub(super) fn from_dict(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut options = Self::default();
        for (name, value) in given {
            options.set(&name.extract::<String>()?, &value, "dispatch")?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>, method: &str) -> PyResult<bool> {
        match (method, name) {
            ("publish", "max_retries" | "timeout") | ("send", "timeout") => return Ok(false),
            _ => {}
        }
        let known = matches!(
            name,
            "id" | "correlation_id"
                | "causation_id"
                | "actor_id"
                | "actor_type"
                | "source"
                | "metadata"
                | "max_retries"
                | "timeout"
        );
        if !known || value.is_none() {
            return Ok(known);
        }
        let text = || -> PyResult<String> {
            value
                .extract()
                .map_err(|_| PyTypeError::new_err(format!("{name}: expected a str")))
        };
        match name {
            "id" => {
                // Ids are text everywhere; a `uuid.UUID` is taken too, as people have those.
                let id = parse_message_id(&value.str()?.to_string_lossy());
                self.id = Some(id.map_err(|error| errors::raise(&error))?);
            }
            "metadata" => {
                let metadata = value
                    .cast::<Metadata>()
                    .map_err(|_| PyTypeError::new_err("metadata: expected orkestra.Metadata"))?;
                self.metadata = Some(metadata.get().0.clone());
            }
            "max_retries" => {
                self.max_retries = Some(value.extract().map_err(|_| {
                    PyValueError::new_err("max_retries: expected a whole number from 0")
                })?);
            }
            "timeout" => self.timeout = Some(convert::seconds(value, "timeout")?),
            field => {
                let text = Some(text()?);
                self.has_fields = true;
                match field {
                    "correlation_id" => self.fields.correlation_id = text,
                    "causation_id" => self.fields.causation_id = text,
                    "actor_id" => self.fields.actor_id = text,
                    "actor_type" => self.fields.actor_type = text,
                    _ => self.fields.source = text,
                }
            }
        }
        Ok(true)
    }
}
