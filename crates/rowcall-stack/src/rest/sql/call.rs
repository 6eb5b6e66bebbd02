//! Calls of functions.

use super::Sql;
use crate::rest::plan::{Arguments, CallPlan, Returning};
use crate::rest::schema::Parameter;

/// The alias of the body's members.
const BODY: &str = "pgrst_body";
/// The alias of the function's rows.
const CALL: &str = "pgrst_call";
/// The column of a function that returns single values.
pub(super) const SCALAR: &str = "pgrst_scalar";

impl Sql {
    /// The select that calls.
    pub(super) fn call(&mut self, plan: &CallPlan<'_>) -> &mut Self {
        self.raw("select ");
        if !plan.routine.returns_composite {
            self.invoke(plan).raw(" as ").raw(SCALAR);
            if let Arguments::Json { .. } = &plan.arguments {
                self.raw(" from ").json_arguments(plan);
            }
            return self;
        }
        match &plan.returning {
            Returning::Columns(columns) => {
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        self.raw(", ");
                    }
                    self.raw(CALL).raw(".").ident(column);
                }
            }
            Returning::Star | Returning::Nothing => {
                self.raw(CALL).raw(".*");
            }
        }
        self.raw(" from ");
        if let Arguments::Json { .. } = &plan.arguments {
            self.json_arguments(plan).raw(", lateral ");
        }
        self.invoke(plan).raw(" as ").raw(CALL)
    }

    /// `"schema"."function"("a" := …)`
    fn invoke(&mut self, plan: &CallPlan<'_>) -> &mut Self {
        self.name(&plan.routine.name).raw("(");
        match &plan.arguments {
            Arguments::None => {}
            Arguments::Body(parameter, body) => {
                self.value(body.as_str())
                    .raw("::")
                    .catalog(&parameter.type_name);
            }
            Arguments::Direct(given) => {
                for (i, (parameter, text)) in given.iter().enumerate() {
                    self.named(i, parameter)
                        .value(text.as_str())
                        .raw("::")
                        .catalog(&parameter.type_name);
                }
            }
            Arguments::Json { parameters, .. } => {
                for (i, parameter) in parameters.iter().enumerate() {
                    self.named(i, parameter)
                        .raw(BODY)
                        .raw(".")
                        .ident(&parameter.name);
                }
            }
        }
        self.raw(")")
    }

    fn named(&mut self, position: usize, parameter: &Parameter) -> &mut Self {
        if position > 0 {
            self.raw(", ");
        }
        if parameter.variadic {
            self.raw("variadic ");
        }
        self.ident(&parameter.name).raw(" := ")
    }

    /// The members of the body as one row of the parameters' types.
    fn json_arguments(&mut self, plan: &CallPlan<'_>) -> &mut Self {
        let Arguments::Json {
            parameters,
            payload,
        } = &plan.arguments
        else {
            return self;
        };
        let record = |sql: &mut Self, function: &'static str, alias: &'static str| {
            sql.raw(function)
                .raw("(")
                .value(payload.json.as_str())
                .raw("::json) as ")
                .raw(alias)
                .raw("(");
            for (i, parameter) in parameters.iter().enumerate() {
                if i > 0 {
                    sql.raw(", ");
                }
                sql.ident(&parameter.name)
                    .raw(" ")
                    .catalog(&parameter.type_name);
            }
            sql.raw(")");
        };
        if payload.is_array {
            self.raw("(select * from ");
            record(self, "json_to_recordset", "pgrst_member");
            self.raw(" limit 1) as ").raw(BODY)
        } else {
            record(self, "json_to_record", BODY);
            self
        }
    }
}
