//! How a list of cases becomes a macro that makes a test of each.

/// Declares a suite: the macro for users, and the table by which a test finds its case.
///
/// A case is a private function of one of the listed modules, so one that is not in the list is dead code and the compiler says so.
macro_rules! suite {
    (
        $(#[$doc:meta])*
        $macro:ident($port:ty) in $suite:ident, $d:tt
        $( $module:ident: [$($case:ident),* $(,)?] )*
    ) => {
        /// Runs the case `name`, as the macro's tests do; without a fixture, as its server is missing, it does nothing.
        ///
        /// # Panics
        /// If the adapter does not behave as the case says, or there is no such case.
        pub fn run(name: &str, fixture: impl Into<Option<$crate::testing::Fixture<$port>>>) {
            let Some(mut fixture) = fixture.into() else {
                return;
            };
            match name {
                $( $( stringify!($case) => $module::$case(&mut fixture), )* )*
                _ => panic!("no case {name}"),
            }
        }

        /// The names of all cases.
        pub const CASES: &[&str] = &[$( $( stringify!($case), )* )*];

        $(#[$doc])*
        #[macro_export]
        macro_rules! $macro {
            ($d factory:expr) => {
                $( $(
                    #[test]
                    fn $case() {
                        $crate::testing::$suite::run(stringify!($case), $d factory());
                    }
                )* )*
            };
        }
    };
}
