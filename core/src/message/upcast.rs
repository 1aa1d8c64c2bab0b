//! Event schemas change: chained steps from one version of a payload to the next.

use std::{collections::HashMap, fmt, sync::Arc};

use serde_json::Value;

use super::MessageError;

/// Turns a payload of one version into the next version's.
pub type Upcast = Arc<dyn Fn(Value) -> Result<Value, MessageError> + Send + Sync>;

/// The upcasters of an app, by type name and version.
#[derive(Default, Clone)]
pub struct Upcasters {
    steps: HashMap<(Arc<str>, u32), Upcast>,
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.steps.keys()).finish()
    }
}

impl Upcasters {
    /// Registers the step from `from_version` to `from_version + 1` of `type_name`; a later one for the same step replaces it.
    pub fn add(&mut self, type_name: impl Into<Arc<str>>, from_version: u32, step: Upcast) {
        self.steps.insert((type_name.into(), from_version), step);
    }

    /// The versions whose steps lead from `from` to `to`, in order; empty when they are the same.
    ///
    /// # Errors
    /// [`MessageError::NoUpcaster`] if a step is missing, or `from` is newer than `to`.
    pub fn chain(&self, type_name: &str, from: u32, to: u32) -> Result<Vec<Upcast>, MessageError> {
        if from > to {
            return Err(MessageError::NoUpcaster {
                type_name: type_name.to_owned(),
                from,
                to,
            });
        }
        (from..to)
            .map(|version| {
                self.steps
                    .get(&(Arc::from(type_name), version))
                    .cloned()
                    .ok_or_else(|| MessageError::NoUpcaster {
                        type_name: type_name.to_owned(),
                        from: version,
                        to,
                    })
            })
            .collect()
    }

    /// The payload `data` of version `from`, brought to version `to`.
    ///
    /// # Errors
    /// As [`Upcasters::chain`], and whatever a step refuses.
    pub fn upcast(
        &self,
        type_name: &str,
        from: u32,
        to: u32,
        data: Value,
    ) -> Result<Value, MessageError> {
        self.chain(type_name, from, to)?
            .iter()
            .try_fold(data, |data, step| step(data))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_chained_and_a_missing_one_is_named() {
        let mut upcasters = Upcasters::default();
        let add = |key: &'static str| -> Upcast {
            Arc::new(move |mut data| {
                data[key] = json!(true);
                Ok(data)
            })
        };
        upcasters.add("Shop.OrderPlaced", 1, add("one"));
        upcasters.add("Shop.OrderPlaced", 2, add("two"));

        let data = upcasters
            .upcast("Shop.OrderPlaced", 1, 3, json!({}))
            .unwrap();
        assert_eq!(data, json!({"one": true, "two": true}));

        let error = upcasters
            .upcast("Shop.OrderPlaced", 1, 4, json!({}))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Shop.OrderPlaced: no upcaster from version 3 to 4"
        );
        assert!(
            upcasters
                .upcast("Shop.OrderPlaced", 2, 1, json!({}))
                .is_err()
        );
    }
}
