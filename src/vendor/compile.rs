//! A vendor file becomes a [`Plan`]: pointers become slots, names become members, and what can't work is told with its
//! place in the file.

use super::{
    OCCURRED_AT,
    convert::{self, Passes, Value},
    format::{Contract, EventRule, Expr, Fields, Source, VendorFile},
    paths::{Paths, Slot},
    plan::{Assignment, EventPlan, FieldPlan, Literal, Options, Plan, Rules, WindowPlan},
    text::{IdPart, Template},
};
use crate::identity::{
    data::{Field, MEMBERS, Member, Shape},
    redact::{Pattern, Redactions},
};

/// What is wrong with a vendor file, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: Vec<String>,
    pub text: String,
}

const SUBJECT: &str = "attributes.subject";
const CORRELATION: &str = "attributes.correlationid";

impl Plan {
    /// Compiles a file; `vendor` is the name it goes by.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at once.
    pub fn compile(vendor: &str, file: &VendorFile, options: Options) -> Result<Self, Vec<Fault>> {
        let exposed = options.expose_secrets.iter().map(String::as_str);
        let secret = file.redact.iter().chain(&options.extra_redactions).map(String::as_str);
        let redactions = Redactions::new(secret, exposed);
        let mut compiler = Compiler {
            file,
            redactions: &redactions,
            paths: Paths::default(),
            within: String::new(),
            faults: Vec::new(),
        };
        compiler.patterns(&["redact"], &file.redact);
        compiler.patterns(&["extra_redactions"], &options.extra_redactions);
        compiler.patterns(&["expose_secrets"], &options.expose_secrets);
        compiler.statuses();
        let items = file.items.as_deref().map(|pointer| compiler.slot(&["items"], pointer));
        let names = compiler.names();
        let expect = file
            .expect
            .iter()
            .map(|(pointer, text)| (compiler.slot(&["expect", pointer], pointer), text.as_str().into()))
            .collect();
        let events = (0..file.event.len()).map(|at| compiler.event(at)).collect();
        let id = file.id.iter().map(|part| IdPart::compile(part, &mut compiler.paths)).collect();
        let window = file.window.as_ref().map(|window| WindowPlan {
            width: window.width.0,
            group: compiler.slots(&["window", "group"], &window.group),
        });
        if window.is_none() && file.event.iter().any(|event| event.window) {
            compiler.fault(&["window"], "an event asks for the window, and there is none");
        }
        let (paths, faults) = (compiler.paths, compiler.faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            vendor: vendor.into(),
            options,
            paths,
            items,
            ignore_name_case: file.ignore_name_case,
            names,
            expect,
            events,
            id,
            window,
            redactions,
        })
    }
}

struct Compiler<'a> {
    file: &'a VendorFile,
    redactions: &'a Redactions,
    paths: Paths,
    /// The pointer to the elements that are being compiled, empty for the document.
    within: String,
    faults: Vec<Fault>,
}

/// The pointers in a text's braces.
fn template_pointers(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

impl Compiler<'_> {
    fn fault(&mut self, path: &[&str], text: impl Into<String>) {
        let path = path.iter().map(|step| (*step).to_owned()).collect();
        self.faults.push(Fault { path, text: text.into() });
    }

    fn patterns(&mut self, path: &[&str], patterns: &[String]) {
        for (position, pattern) in patterns.iter().enumerate() {
            if !Pattern::is_one(pattern) {
                let position = position.to_string();
                self.fault(
                    &[path, &[&position]].concat(),
                    "expected a JSON Pointer such as `/data/token`, or `**/token`",
                );
            }
        }
    }

    /// A success that is none would be retried for ever; a limit that looks like a success would lose events.
    fn statuses(&mut self) {
        let Contract { success_status, limited_status, .. } = self.file.response;
        if !(200..300).contains(&success_status) {
            self.fault(&["response", "success_status"], "expected a status of success, 200 to 299");
        }
        if !matches!(limited_status, 429 | 503) {
            self.fault(&["response", "limited_status"], "expected 429 or 503");
        }
    }

    fn slot(&mut self, path: &[&str], pointer: &str) -> Slot {
        if !pointer.starts_with('/') {
            self.fault(path, "a JSON Pointer begins with `/`");
        }
        self.paths.add(pointer)
    }

    fn slots(&mut self, path: &[&str], pointers: &[String]) -> Vec<Slot> {
        pointers.iter().map(|pointer| self.slot(path, pointer)).collect()
    }

    fn template(&mut self, path: &[&str], text: &str, base: &str) -> Option<Template> {
        Template::compile(text, base, &mut self.paths).map_err(|what| self.fault(path, what)).ok()
    }

    fn names(&mut self) -> Vec<(Vec<Slot>, Template, Vec<Slot>)> {
        let mut names = Vec::new();
        for (at, rule) in self.file.name.iter().enumerate() {
            let at = at.to_string();
            let when = self.slots(&["name", &at, "when"], &rule.when);
            if let Some(template) = self.template(&["name", &at, "name"], &rule.name, "") {
                let read = template.slots().collect();
                names.push((when, template, read));
            }
        }
        names
    }

    fn event(&mut self, at: usize) -> EventPlan {
        let rule = &self.file.event[at];
        let number = at.to_string();
        let place = ["event", number.as_str()];
        let mut subject = None;
        let mut correlation = Vec::new();
        let mut fields = FieldPlan { members: MEMBERS, assignments: Vec::new(), literals: Vec::new() };
        for (group, base, path) in self.groups(rule, &place) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            for (target, source) in group {
                let path = [path.as_slice(), &[target.as_str()]].concat();
                match (target.as_str(), source) {
                    (SUBJECT, Source::Literal(text)) => {
                        let template = self.template(&path, text, &base);
                        let hidden = template_pointers(text)
                            .any(|pointer| self.redactions.covers(&format!("{base}{pointer}")));
                        subject = subject.or_else(|| template.filter(|_| !hidden));
                    }
                    (CORRELATION, Source::Pointers(pointers)) => {
                        let pointers = pointers.iter().map(|pointer| format!("{base}{pointer}"));
                        let shown = pointers.filter(|pointer| !self.redactions.covers(pointer));
                        correlation.extend(shown.map(|pointer| self.paths.add(&pointer)).collect::<Vec<_>>());
                    }
                    (SUBJECT | CORRELATION, _) => {
                        self.fault(
                            &path,
                            "the subject is a text with pointers in braces, the correlation id a pointer",
                        );
                    }
                    _ => self.field(&mut fields, &base, target, source, &path),
                }
            }
        }
        for kind in ["actor.kind", "subject.kind"] {
            self.literal(&mut fields, kind, "user", &place);
        }
        fields.assignments.sort_by_key(|assignment| assignment.field);
        EventPlan {
            attributes: fields.of_attributes(),
            names: rule.names.clone(),
            when: self.slots(&[place[0], place[1], "when"], &rule.when),
            event_type: rule.event_type,
            fields,
            subject,
            correlation,
            required: self.slots(&[place[0], place[1], "required"], &rule.required),
            id: rule.id.iter().map(|part| IdPart::compile(part, &mut self.paths)).collect(),
            window: rule.window,
            partial: rule.partial,
        }
    }

    /// The groups of fields an event uses, its own first: fields, base pointer, place in the file.
    fn groups<'f>(&mut self, rule: &'f EventRule, place: &[&str; 2]) -> Vec<(&'f Fields, String, Vec<String>)>
    where
        Self: 'f,
    {
        let own = [place[0], place[1], "set"].map(str::to_owned).to_vec();
        let mut groups = vec![(&rule.set, String::new(), own)];
        for name in &rule.maps {
            let (group, base) = name.split_once('@').unwrap_or((name, ""));
            match self.file_map(group) {
                Some(fields) => groups.push((fields, base.to_owned(), vec!["map".into(), group.into()])),
                None => self.fault(&[place[0], place[1], "maps"], format!("there is no [map.{group}]")),
            }
        }
        groups
    }

    fn file_map<'f>(&self, group: &str) -> Option<&'f Fields>
    where
        Self: 'f,
    {
        self.file.map.get(group)
    }

    fn field(&mut self, plan: &mut FieldPlan, base: &str, target: &str, source: &Source, path: &[&str]) {
        if let Source::Literal(text) = source {
            return self.literal(plan, target, text, path);
        }
        let field =
            Field::named(plan.members, target).filter(|field| field.shape(plan.members) != Shape::Constant);
        let Some(field) = field else {
            return self
                .fault(path, "no member of the identity event has this name, or it is not yours to set");
        };
        let expr = match source {
            Source::Table(expr) => Some(&**expr),
            Source::Literal(_) | Source::Pointers(_) => None,
        };
        let pointers = match source {
            Source::Pointers(pointers) => pointers,
            Source::Table(expr) => &expr.from.0,
            Source::Literal(_) => return,
        };
        let (mut slots, mut shown) = (Vec::new(), Vec::new());
        for pointer in pointers {
            let pointer = format!("{base}{pointer}");
            let full = format!("{}{pointer}", self.within);
            let taken = expr.and_then(|expr| expr.take.as_ref()).map(|name| format!("{full}/*/{name}"));
            // What is a secret is never mapped: it stays where it is, redacted.
            if !self.redactions.covers(&full) && !taken.is_some_and(|taken| self.redactions.covers(&taken)) {
                slots.push(self.slot(path, &pointer));
                shown.push(full);
            }
        }
        let rules = expr
            .map(|expr| Box::new(self.rules(expr, base, &slots, &shown, field.shape(plan.members), path)));
        if !slots.is_empty() {
            let shape = field.shape(plan.members);
            // The event's own time is more than a text.
            let is_event_time = std::ptr::eq(plan.members, MEMBERS) && field == OCCURRED_AT;
            let passes = match shape {
                Shape::Text => Passes::Text,
                Shape::Time if !is_event_time => Passes::Time,
                _ => Passes::None,
            };
            plan.assignments.push(Assignment { field, shape, passes, slots, rules });
        }
    }

    fn rules(
        &mut self,
        expr: &Expr,
        base: &str,
        slots: &[Slot],
        full: &[String],
        shape: Shape,
        path: &[&str],
    ) -> Rules {
        if expr.split.is_some() != expr.part.is_some() {
            self.fault(path, "`split` and `part` go together");
        }
        if let (Some(words), Shape::Word(ours)) = (&expr.words, shape)
            && let Some(odd) = words.values().find(|word| convert::word(ours, word).is_none())
        {
            self.fault(path, format!("`{odd}` is not one of {}", ours.join(", ")));
        }
        let each = match (&expr.each, shape) {
            (Some(group), Shape::List(members)) => self.each(group, members, slots, full, path),
            (None, Shape::List(_)) => {
                self.fault(path, "a list is made element by element: `each = \"group\"`");
                None
            }
            (Some(_), _) => {
                self.fault(path, "`each` makes lists, and this member is none");
                None
            }
            (None, _) => None,
        };
        Rules {
            words: expr.words.clone(),
            has: expr.has.clone(),
            lacks: expr.lacks.clone(),
            split: expr.split.clone().zip(expr.part),
            pick: expr.pick.clone(),
            take: expr.take.clone(),
            each,
            same_as: expr.same_as.as_deref().map(|pointer| self.slot(path, &format!("{base}{pointer}"))),
            keep: expr.keep,
        }
    }

    /// The plan for an array's elements, whose pointers begin at the element.
    fn each(
        &mut self,
        group: &str,
        members: &'static [Member],
        slots: &[Slot],
        full: &[String],
        path: &[&str],
    ) -> Option<FieldPlan> {
        let Some(fields) = self.file_map(group) else {
            self.fault(path, format!("there is no [map.{group}]"));
            return None;
        };
        let mut plan = FieldPlan { members, assignments: Vec::new(), literals: Vec::new() };
        let outer = std::mem::take(&mut self.paths);
        let within = full.first().map(|full| format!("{full}/*")).unwrap_or_default();
        let around = std::mem::replace(&mut self.within, within);
        for (target, source) in fields {
            self.field(&mut plan, "", target, source, &["map", group, target]);
        }
        plan.assignments.sort_by_key(|assignment| assignment.field);
        self.within = around;
        let inner = std::mem::replace(&mut self.paths, outer);
        for slot in slots {
            self.paths.add_each(*slot, inner.clone());
        }
        Some(plan)
    }

    fn literal(&mut self, plan: &mut FieldPlan, target: &str, text: &str, path: &[&str]) {
        let Some(field) = Field::named(plan.members, target) else {
            return self.fault(path, "no member of the identity event has this name");
        };
        if plan.literals.iter().any(|known| known.field == field) {
            return;
        }
        let value = match field.shape(plan.members) {
            Shape::Text => Ok(Value::Text(text.into())),
            Shape::Word(words) | Shape::Kind(words) => convert::word(words, text)
                .map(Value::Word)
                .ok_or_else(|| format!("expected one of {}", words.join(", "))),
            Shape::Bool => {
                text.parse().map(Value::Bool).map_err(|_| "expected \"true\" or \"false\"".to_owned())
            }
            _ => Err("this member takes no literal".to_owned()),
        };
        match value {
            Ok(value) => {
                plan.literals.push(Literal { field, value, family: field.family(plan.members) });
            }
            Err(text) => self.fault(path, text),
        }
    }
}
