package store_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/store"
)

// distributed are the tables that a distributed database spreads over its machines, each with the column that says
// where a row goes. It can only watch over a key that holds that column.
var distributed = map[string]string{"usage": "subject", "call": "seq"}

// local are the other tables. A distributed database keeps them in one place, and reads or writes them by themselves.
var local = func() (names []string) {
	files, _ := filepath.Glob("migrations/postgres/*.sql") // the pattern is good
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		for _, statement := range split(lex(string(text))) {
			m := tableHead.FindStringSubmatch(" " + strings.Join(statement, " ") + " ")
			if m != nil && distributed[m[1]] == "" {
				names = append(names, m[1])
			}
		}
	}
	return names
}()

// exceptions are what the subset has no room for and is done all the same: in which file, against which rule, in a
// text that holds part. One that nothing needs any more is an error.
var exceptions = []struct{ file, rule, part, why string }{
	{"0001_ledger.sql", "partition", "TABLE IF NOT EXISTS usage", "the index of the open days stays small; where a database spreads rows in its own way, usage is made by hand without partitions"},
	{"postgres_house.go", "partition", "ATTACH PARTITION", "only done where usage is a partitioned table"},
	{"postgres_house.go", "partition", "DETACH PARTITION", "only done where usage is a partitioned table"},
}

// TestSubset holds all SQL that goes to PostgreSQL to what Citus, CockroachDB and YugabyteDB understand too.
func TestSubset(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var texts []sqlText
	sources := map[string]string{}
	for _, file := range files {
		if name := filepath.Base(file); !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "sqlite") {
			sources[name] = read(t, file)
		}
	}
	inGo, err := goTexts(sources)
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, inGo...)
	files, err = filepath.Glob("migrations/postgres/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		texts = append(texts, migrationTexts(filepath.Base(file), read(t, file))...)
	}
	for _, sql := range store.Upserts() {
		texts = append(texts, sqlText{file: "kinds.go", sql: sql})
	}

	needed := map[int]bool{}
	spread := map[string]bool{}
	for _, text := range texts {
		for _, k := range uniqueKeys(lex(text.sql)) {
			spread[k.table] = spread[k.table] || k.primary
		}
		for _, r := range append(text.refusals, refusals(text.sql)...) {
			i := slices.IndexFunc(exceptions, func(e struct{ file, rule, part, why string }) bool {
				return e.file == text.file && e.rule == r.rule && strings.Contains(text.sql, e.part)
			})
			if i < 0 {
				t.Errorf("%s:%d: %s: %s\n\t%.200s", text.file, text.line, r.rule, r.why, strings.Join(lex(text.sql), " "))
			}
			needed[i] = true
		}
	}
	for i, e := range exceptions {
		if !needed[i] {
			t.Errorf("the exception for %q of %s (%s) is not needed any more", e.part, e.file, e.rule)
		}
	}
	// What is not found cannot be refused: look for what must be there.
	for table := range distributed {
		if !spread[table] {
			t.Errorf("no table %q with a primary key was found", table)
		}
	}
	for _, part := range []string{"INSERT INTO usage", "INSERT INTO call", "INSERT INTO account", "INSERT INTO client_token", "UPDATE writer", "UPDATE lease", "ROLLBACK"} {
		if !slices.ContainsFunc(texts, func(text sqlText) bool { return strings.Contains(text.sql, part) }) {
			t.Errorf("%s was not found in Go files; %d texts were", part, len(texts))
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sqlText is a text that goes to the database, maybe a part of one.
type sqlText struct {
	file     string
	line     int
	sql      string
	refusals []refusal // known before it is read
}

type refusal struct{ rule, why string }

// rules are patterns of the words of one statement, each with a space before and after it.
var rules = []struct{ rule, pattern, why string }{
	{"sequence", ` (create|alter|drop) (temp |temporary |unlogged )?sequence | (nextval|setval|currval|lastval) \( | (small|big)?serial[248]? | generated (always|by default) as `,
		"numbers are given by the ledger: a sequence is one place that all nodes would wait for, and has gaps"},
	{"notify", `^ (un)?listen |^ notify | pg_notify \( `, "CockroachDB has no LISTEN, and a pooler in between loses it"},
	{"advisory lock", ` pg_(try_)?advisory\w* `, "CockroachDB has none that outlast a transaction: use a lease"},
	{"skip locked", ` skip locked `, "which rows are skipped differs between databases: use a lease"},
	{"row lock", ` for (no key )?update | for (key )?share `, "Citus cannot lock rows of several shards: use one UPDATE with a condition"},
	{"trigger", ` trigger `, "Citus and CockroachDB do not run it on every row: do it in the statement"},
	{"rule", `^ (create|alter|drop) (or replace )?rule `, "CockroachDB has no rules"},
	{"exclusion", ` exclude `, "only PostgreSQL has exclusion constraints"},
	{"deferrable", ` (not )?deferrable | initially (deferred|immediate) |^ set constraints `, "CockroachDB and YugabyteDB check at once"},
	{"copy", `^ copy `, "it cannot ignore keys that are taken, and differs between databases"},
	{"table lock", `^ lock `, "it stops all nodes; CockroachDB has none"},
	{"merge", ` merge into `, "CockroachDB and YugabyteDB have none: use INSERT … ON CONFLICT"},
	{"recursive", ` with recursive `, "Citus cannot run it over several shards"},
	{"temporary table", ` (unlogged|temp|temporary|pg_temp) `, "what is unlogged is lost, and a temporary table is a change of the schema"},
	{"savepoint", ` savepoint |^ rollback (work |transaction )?to |^ release `, "a transaction is run again as a whole; Citus and CockroachDB restrict it"},
	{"serializable", `serializable`, "keys and compare-and-set decide; CockroachDB and YugabyteDB would refuse far more transactions"},
	{"system column", ` (ctid|xmin|xmax|cmin|cmax|tableoid) `, "it belongs to how PostgreSQL lays out rows"},
	{"transaction id", ` (txid_\w+|pg_current_xact_id\w*|pg_current_snapshot|pg_xact_status|pg_export_snapshot) | set transaction snapshot `, "CockroachDB has none: the row of the writer says what was committed"},
	{"foreign key", ` references | foreign key `, "each row would read another one, maybe on another machine; meterd verify looks for what is missing"},
	{"code", `^ (create|alter|drop) (or replace )?(function|procedure|extension|aggregate|operator|language) |^ do `, "code belongs into the program, which knows its version"},
	{"grouping sets", ` grouping sets | (rollup|cube) \( `, "Citus and CockroachDB have none"},
	{"writing in WITH", ` as ((not )?materialized )?\( (insert|update|delete|merge) `, "Citus cannot run it over several shards: use two statements"},
	{"partition", ` partition by (range|list|hash) | partition of | (attach|detach) partition `, "CockroachDB and YugabyteDB spread rows in their own way"},
	{"volatile", `^ update (\S+ )*clock_timestamp `, "Citus refuses what changes within a transaction in an UPDATE: use now()"},
	{"setting in a choice", `^ update .* (coalesce|case) .*current_setting `, "Citus refuses functions that are not immutable in COALESCE and CASE of an UPDATE: compare with IS DISTINCT FROM"},
	{"parameter on conflict", ` select .* on conflict .* \$\d+ `, "Citus does not find the parameters behind ON CONFLICT of an INSERT … SELECT: have the text hold the value"},
	{"ddl with dml", `^ create (\S+ )*table .* as (\( )?(select|with|values|table) |^ select .* into (table )?\S+ from `, "changes of the schema and of rows are two statements, in two transactions"},
}

var compiled = func() (all []*regexp.Regexp) {
	for _, r := range rules {
		all = append(all, regexp.MustCompile(r.pattern))
	}
	return all
}()

// settings are what all of these databases let a session set.
var settings = []string{"application_name", "client_encoding", "client_min_messages", "default_transaction_isolation", "default_transaction_read_only", "enable_seqscan",
	"idle_in_transaction_session_timeout", "lock_timeout", "search_path", "statement_timeout", "synchronous_commit", "time", "timezone",
	"transaction", "transaction_isolation", "transaction_read_only"}

var setting = regexp.MustCompile(`^ (?:set|reset) (?:session (?:characteristics as )?|local )?(\S+) | set_config \( '([^']*)'`)

var (
	ddl = []string{"create", "alter", "drop", "truncate", "comment", "grant", "revoke", "reindex"}
	dml = []string{"select", "insert", "update", "delete", "merge", "values", "with", "copy"}
)

// refusals says what in a text is outside of the subset.
func refusals(sql string) (found []refusal) {
	refuse := func(rule, format string, args ...any) {
		found = append(found, refusal{rule, fmt.Sprintf(format, args...)})
	}
	statements := split(lex(sql))
	var changesSchema, changesRows bool
	for _, words := range statements {
		statement := " " + strings.Join(words, " ") + " "
		for i, r := range compiled {
			if r.MatchString(statement) {
				refuse(rules[i].rule, "%s", rules[i].why)
			}
		}
		for _, m := range setting.FindAllStringSubmatch(statement, -1) {
			if name := m[1] + m[2]; !slices.Contains(settings, name) && words[0] != "update" {
				refuse("setting", "CockroachDB refuses to set %s, or another of these databases does: choose it from pg_settings, if it is there", name)
			}
		}
		for i := range words {
			if i+1 < len(words) && words[i] == "on" && words[i+1] == "conflict" && (i+2 == len(words) || words[i+2] != "(") {
				refuse("conflict", "ON CONFLICT must name its columns: each database has its own idea of which keys there are")
			}
		}
		for _, k := range uniqueKeys(words) {
			if column := distributed[k.table]; column != "" && !slices.Contains(k.columns, column) {
				refuse("key", "a unique key (%s) of %s must hold %s, by which rows are spread", strings.Join(k.columns, ", "), k.table, column)
			}
		}
		spread, here := 0, 0
		for i := 1; i < len(words); i++ {
			switch name := words[i]; {
			case !slices.Contains([]string{"from", "join", "into", "update"}, words[i-1]):
			case slices.Contains(local, name):
				here++
			case distributed[name] != "":
				spread++
				if words[i-1] == "update" || i > 1 && words[i-2] == "delete" {
					refuse("append only", "rows of %s are never changed or deleted", name)
				}
			}
		}
		if spread > 0 && here > 0 {
			refuse("spread with local", "Citus has few ways to bring a table that is spread together with a local one: use two statements")
		}
		if spread > 1 {
			refuse("shards", "Citus refuses most statements in which rows of one shard depend on those of another: use two")
		}
		changesSchema = changesSchema || slices.Contains(ddl, words[0])
		changesRows = changesRows || slices.Contains(dml, words[0])
	}
	if changesSchema && changesRows {
		refuse("ddl with dml", "changes of the schema and of rows are two statements, in two transactions")
	}
	if len(statements) > 1 {
		refuse("several statements", "only PostgreSQL's simple protocol takes several statements at once, and runs them as one transaction")
	}
	return found
}

var word = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\d+|[\pL_…][\pL\pN_$…]*|\d+|::|.`)

// lex returns the words of a text in lower case, without comments. A string is one word.
func lex(sql string) (words []string) {
	for _, w := range word.FindAllString(sql, -1) {
		switch {
		case strings.TrimSpace(w) == "" || strings.HasPrefix(w, "--") || strings.HasPrefix(w, "/*"):
			continue
		case w[0] == '\'':
			w = strings.Join(strings.Fields(w), "_")
		case w[0] == '"':
			w = strings.Trim(w, `"`)
		}
		words = append(words, strings.ToLower(w))
	}
	return words
}

// split divides words into statements.
func split(words []string) (statements [][]string) {
	var one []string
	for _, w := range append(slices.Clip(words), ";") {
		if w != ";" {
			one = append(one, w)
		} else if len(one) > 0 {
			statements, one = append(statements, one), nil
		}
	}
	return statements
}

// uniqueKey is a primary key or a unique one that a statement makes. Its columns are empty if they cannot be told.
type uniqueKey struct {
	table   string
	primary bool
	columns []string
}

var (
	tableHead = regexp.MustCompile(`^ (?:create (?:\S+ )*?table (?:if not exists )?|alter table (?:if exists )?(?:only )?)(?:\S+ \. )?(\S+) `)
	indexHead = regexp.MustCompile(`^ create unique index .*? on (?:only )?(?:\S+ \. )?(\S+) `)
)

func uniqueKeys(words []string) (keys []uniqueKey) {
	statement := " " + strings.Join(words, " ") + " "
	if m := indexHead.FindStringSubmatch(statement); m != nil {
		return []uniqueKey{{m[1], false, columnsIn(strings.Fields(statement[len(m[0])-1:]))}}
	}
	m := tableHead.FindStringSubmatch(statement)
	if m == nil {
		return nil
	}
	for _, item := range items(strings.Fields(statement[len(m[0])-1:])) {
		for i, w := range item {
			primary := w == "primary" && i+1 < len(item) && item[i+1] == "key"
			if !primary && w != "unique" {
				continue
			}
			k := uniqueKey{m[1], primary, columnsIn(item[i:])}
			if definesColumn(item) {
				k.columns = item[:1]
			}
			keys = append(keys, k)
		}
	}
	return keys
}

// items divides what a table holds, or what is done to it, at the commas that are in no inner parentheses.
func items(words []string) (all [][]string) {
	outer := 0
	if len(words) > 0 && words[0] == "(" { // CREATE TABLE name (
		words, outer = words[1:], 1
	}
	depth := outer
	one := []string{}
	for _, w := range words {
		switch w {
		case "(":
			depth++
		case ")":
			depth--
		}
		if w == "," && depth == outer {
			all, one = append(all, trimAdd(one)), nil
		} else {
			one = append(one, w)
		}
	}
	return append(all, trimAdd(one))
}

// trimAdd leaves of ADD COLUMN what it adds.
func trimAdd(item []string) []string {
	for _, w := range []string{"add", "column", "if", "not", "exists"} {
		if len(item) > 0 && item[0] == w {
			item = item[1:]
		}
	}
	return item
}

func definesColumn(item []string) bool {
	return len(item) > 0 && !slices.Contains([]string{"constraint", "primary", "unique"}, item[0])
}

// columnsIn returns the names in the first parentheses.
func columnsIn(words []string) (names []string) {
	from := slices.Index(words, "(")
	if from < 0 {
		return nil
	}
	for _, w := range words[from+1:] {
		if w == ")" {
			break
		}
		if w != "," {
			names = append(names, w)
		}
	}
	return names
}

// migrationTexts divides a migration as the store does when it runs it, at semicolons that end a line, and checks that
// these are its statements.
func migrationTexts(file, content string) (texts []sqlText) {
	line := 1
	for _, piece := range strings.SplitAfter(content, ";\n") {
		text := sqlText{file: file, line: line, sql: piece}
		if s := strings.TrimSuffix(piece, ";\n"); s != piece {
			words := lex(s + "§") // which a comment swallows that is open there; an open string leaves its quote
			if len(words) == 0 || words[len(words)-1] != "§" || slices.Contains(words, "'") {
				text.refusals = append(text.refusals, refusal{"cut statement", "a semicolon at the end of a line ends the statement, also in a comment or a string"})
			}
		}
		texts = append(texts, text)
		line += strings.Count(piece, "\n")
	}
	return texts
}

// goSource finds the SQL in Go files of one package.
type goSource struct {
	fset      *token.FileSet
	constants map[string]ast.Expr
	file      string
	texts     []sqlText
}

// goTexts returns the texts in Go files that may be SQL. Constants and literals that are joined are one text, in which
// … stands for what is only known when it runs.
func goTexts(sources map[string]string) ([]sqlText, error) {
	s := &goSource{fset: token.NewFileSet(), constants: map[string]ast.Expr{}}
	files := map[string]*ast.File{}
	for name, source := range sources {
		file, err := parser.ParseFile(s.fset, name, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files[name] = file
		ast.Inspect(file, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					v := spec.(*ast.ValueSpec)
					for i, value := range v.Values {
						s.constants[v.Names[i].Name] = value
					}
				}
			}
			return true
		})
	}
	for name, file := range files {
		s.file = name
		ast.Inspect(file, s.visit)
	}
	slices.SortFunc(s.texts, func(a, b sqlText) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	})
	return s.texts, nil
}

// messages are functions whose texts are for people.
var messages = []string{"errors.New", "fmt.Errorf", "panic", "logged", "problem"}

// pgxCalls are what the driver offers outside of the subset.
var pgxCalls = map[string]string{"CopyFrom": "copy", "WaitForNotification": "notify", "LargeObjects": "large object", "pgx.Serializable": "serializable",
	"pgx.Deferrable": "deferrable", "QueryExecModeSimpleProtocol": "simple protocol", "conn.PgConn": "simple protocol",
	"tx.Begin": "savepoint", "tx.BeginTx": "savepoint"}

// visit takes a node of the syntax and reports whether to go on to what is in it.
func (s *goSource) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec:
		return false
	case *ast.Field: // not its tag
		return n.Tag == nil
	case *ast.FuncDecl:
		return n.Name.Name != "Error"
	case *ast.CallExpr:
		name := nameOf(n.Fun)
		if slices.Contains(messages, name) || strings.HasPrefix(name, "slog.") {
			return false
		}
		s.call(n, name)
	case *ast.SelectorExpr:
		s.refuse(n, nameOf(n))
	case ast.Expr:
		if sql, ok := s.value(n, 0); ok {
			s.found(n, sql)
			s.inHoles(n)
			return false
		}
	}
	return true
}

// call looks for savepoints, and takes what is handed to the database for SQL, whatever it looks like.
func (s *goSource) call(c *ast.CallExpr, name string) {
	parts := strings.Split(name, ".")
	if (name == "pgx.BeginFunc" || name == "pgx.BeginTxFunc") && len(c.Args) > 1 && parts[0] == "pgx" {
		if from := nameOf(c.Args[1]); from == "tx" || strings.HasSuffix(from, ".tx") {
			s.refuse(c, "tx.Begin")
		}
	}
	switch strings.ToLower(parts[len(parts)-1]) {
	case "exec", "query", "queryrow", "queue", "prepare", "declare":
		for _, a := range c.Args {
			if sql, ok := s.value(a, 0); ok && !looksLikeSQL(sql) {
				s.texts = append(s.texts, sqlText{file: s.file, line: s.fset.Position(a.Pos()).Line, sql: sql})
			}
		}
	}
}

func (s *goSource) refuse(n ast.Node, name string) {
	parts := strings.Split(name, ".")
	for _, known := range []string{strings.Join(parts[max(0, len(parts)-2):], "."), parts[len(parts)-1]} {
		if rule, ok := pgxCalls[known]; ok {
			s.texts = append(s.texts, sqlText{s.file, s.fset.Position(n.Pos()).Line, name, []refusal{{rule, "the driver would send what is outside of the subset"}}})
		}
	}
}

// inHoles visits what a joined text does not know the value of.
func (s *goSource) inHoles(n ast.Expr) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		s.inHoles(n.X)
		s.inHoles(n.Y)
	case *ast.ParenExpr:
		s.inHoles(n.X)
	case *ast.BasicLit, *ast.Ident:
	default:
		ast.Inspect(n, s.visit)
	}
}

func (s *goSource) found(n ast.Expr, sql string) {
	if _, named := n.(*ast.Ident); !named && looksLikeSQL(sql) { // a constant is found where it is declared
		s.texts = append(s.texts, sqlText{file: s.file, line: s.fset.Position(n.Pos()).Line, sql: sql})
	}
}

var verb = regexp.MustCompile(`\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|AND|JOIN|ORDER|GROUP|LIMIT|VALUES|CONFLICT|RETURNING|SET|RESET|CREATE|ALTER|DROP|TABLE|INDEX|` +
	`BEGIN|COMMIT|ROLLBACK|SAVEPOINT|LISTEN|NOTIFY|LOCK|COPY|MERGE|WITH|DECLARE|FETCH|DO|FOR|TRUNCATE)\b|` +
	`^\s*(?i:select|insert|update|delete|with|create|alter|drop|set|reset|begin|savepoint|rollback|listen|notify|lock|copy|merge|declare|fetch|truncate|release|do)\s+\S`)

// looksLikeSQL tells SQL by words in capitals, or by the word that it begins with.
func looksLikeSQL(s string) bool { return verb.MatchString(s) }

// value returns the text of an expression of string literals and constants, with … for the verbs of fmt and for what is
// joined to them and not constant. It reports false if there is no literal in it.
func (s *goSource) value(n ast.Expr, depth int) (text string, ok bool) {
	if depth > 20 {
		return "…", false
	}
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			text, err := strconv.Unquote(n.Value)
			return formatVerb.ReplaceAllString(text, "…"), err == nil
		}
	case *ast.ParenExpr:
		return s.value(n.X, depth+1)
	case *ast.Ident:
		if c := s.constants[n.Name]; c != nil {
			return s.value(c, depth+1)
		}
	case *ast.BinaryExpr:
		if n.Op == token.ADD {
			x, okX := s.value(n.X, depth+1)
			y, okY := s.value(n.Y, depth+1)
			return x + y, okX || okY
		}
	}
	return "…", false
}

var formatVerb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)

// nameOf returns a name with what it is selected from, a.b.c.
func nameOf(n ast.Expr) string {
	switch n := n.(type) {
	case *ast.Ident:
		return n.Name
	case *ast.SelectorExpr:
		return nameOf(n.X) + "." + n.Sel.Name
	}
	return ""
}

// TestSubsetRefuses shows that the rules refuse what they are for, and nothing else.
func TestSubsetRefuses(t *testing.T) {
	tests := []struct{ sql, want string }{
		{"CREATE SEQUENCE calls", "sequence"},
		{"SELECT nextval('calls')", "sequence"},
		{"create table t (id bigserial primary key)", "sequence"},
		{"CREATE TABLE t (id SERIAL PRIMARY KEY)", "sequence"},
		{"CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)", "sequence"},
		{"ALTER TABLE t ALTER id ADD GENERATED BY DEFAULT AS IDENTITY", "sequence"},
		{"LISTEN changes", "notify"},
		{"notify changes", "notify"},
		{"SELECT pg_notify('changes', $1)", "notify"},
		{"SELECT pg_advisory_lock(1)", "advisory lock"},
		{"SELECT pg_try_advisory_xact_lock($1)", "advisory lock"},
		{"SELECT id FROM work ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", "row lock, skip locked"},
		{"SELECT n FROM state\nFOR\n  UPDATE", "row lock"},
		{"SELECT n FROM state FOR KEY SHARE OF state", "row lock"},
		{"CREATE TRIGGER t BEFORE INSERT ON usage EXECUTE FUNCTION f()", "trigger"},
		{"CREATE OR REPLACE RULE r AS ON INSERT TO usage DO NOTHING", "rule"},
		{"CREATE TABLE t (a int PRIMARY KEY, EXCLUDE USING gist (a WITH =))", "exclusion"},
		{"CREATE TABLE t (a int PRIMARY KEY DEFERRABLE)", "deferrable"},
		{"CREATE TABLE t (a int PRIMARY KEY INITIALLY DEFERRED)", "deferrable"},
		{"SET CONSTRAINTS ALL DEFERRED", "deferrable, setting"},
		{"COPY usage FROM STDIN", "copy"},
		{"LOCK TABLE usage IN SHARE MODE", "table lock"},
		{"lock usage", "table lock"},
		{"MERGE INTO usage USING t ON true WHEN MATCHED THEN DELETE", "merge"},
		{"WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r", "recursive"},
		{"CREATE UNLOGGED TABLE t (a int PRIMARY KEY)", "temporary table"},
		{"CREATE LOCAL TEMPORARY TABLE t (a int)", "temporary table"},
		{"CREATE TEMP TABLE t (a int)", "temporary table"},
		{"SAVEPOINT s", "savepoint"},
		{"ROLLBACK TO SAVEPOINT s", "savepoint"},
		{"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "serializable"},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "deferrable, serializable"},
		{"SELECT set_config('default_transaction_isolation', 'serializable', false)", "serializable"},
		{"DELETE FROM client_token WHERE ctid IN (SELECT ctid FROM client_token LIMIT 10)", "system column"},
		{"SELECT u.xmin FROM usage u", "system column"},
		{"SELECT txid_status($1)", "transaction id"},
		{"CREATE TABLE t (a int PRIMARY KEY REFERENCES account (id))", "foreign key"},
		{"ALTER TABLE usage ADD FOREIGN KEY (product) REFERENCES product (id)", "foreign key"},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "code"},
		{"DO $$ BEGIN PERFORM 1 END $$", "code"},
		{"SELECT product, sum(quantity) FROM usage GROUP BY GROUPING SETS ((product), ())", "grouping sets"},
		{"SELECT product, sum(quantity) FROM usage GROUP BY ROLLUP (product)", "grouping sets"},
		{"WITH gone AS (DELETE FROM client_token RETURNING hash) SELECT count(*) FROM gone", "writing in WITH"},
		{"CREATE TABLE t (hour int PRIMARY KEY) PARTITION BY RANGE (hour)", "partition"},
		{"CREATE TABLE t PARTITION OF usage DEFAULT", "partition"},
		{"ALTER TABLE usage DETACH PARTITION old", "partition"},
		{"CREATE TABLE t AS SELECT * FROM usage", "ddl with dml"},
		{"SELECT seq INTO t FROM usage", "ddl with dml"},
		{"CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t (a) VALUES (1)", "ddl with dml, several statements"},
		{"BEGIN; UPDATE state SET n = 1", "several statements"},
		{"SET enable_hashjoin = off", "setting"},
		{"set local work_mem to '64MB'", "setting"},
		{"SELECT set_config('enable_mergejoin', 'off', false), set_config('enable_seqscan', 'off', false)", "setting"},
		{"INSERT INTO usage (seq) VALUES ($1) ON CONFLICT DO NOTHING", "conflict"},
		{"UPDATE lease SET expires = clock_timestamp() WHERE name = $1", "volatile"},
		{"UPDATE writer SET at = $1 WHERE coalesce(current_setting('fsync', true), 'on') = 'on'", "setting in a choice"},
		{"INSERT INTO t (a) SELECT * FROM unnest($1::int8[]) ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.b < $2", "parameter on conflict"},
		{"INSERT INTO usage (seq) VALUES ($1) on conflict on constraint usage_pkey do nothing", "conflict"},
		{"CREATE TABLE usage (seq bigint PRIMARY KEY, subject bigint)", "key"},
		{"CREATE TABLE IF NOT EXISTS public.usage (seq bigint UNIQUE, subject bigint, PRIMARY KEY (seq, subject))", "key"},
		{"CREATE TABLE usage (hour int, subject bigint, meter int, seq bigint, PRIMARY KEY (hour, subject, meter), CONSTRAINT once UNIQUE (seq))", "key"},
		{"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS usage_seq ON ONLY usage USING btree (seq)", "key"},
		{"CREATE UNIQUE INDEX call_request ON call (request)", "key"},
		{"UPDATE usage SET quantity = $1 WHERE seq = $2", "append only"},
		{"DELETE FROM call WHERE at < $1", "append only"},
		{"SELECT c.at FROM writer w JOIN call c ON c.seq = w.calls", "spread with local"},
		{"INSERT INTO call (seq, at) SELECT n, $1 FROM state", "spread with local"},
		{"UPDATE writer SET at = (SELECT max(at) FROM call)", "spread with local"},
		{"SELECT seq FROM usage WHERE seq NOT IN (SELECT seq FROM call)", "shards"},
		{"SELECT at FROM call WHERE seq = (SELECT max(seq) FROM call)", "shards"},
		{"ALTER TABLE call ADD CONSTRAINT once UNIQUE (request)", "key"},
		{"ALTER TABLE usage ADD COLUMN IF NOT EXISTS id uuid UNIQUE", "key"},
		{"ALTER TABLE usage ADD PRIMARY KEY USING INDEX i", "key"},
		{"ALTER TABLE IF EXISTS ONLY call ADD COLUMN a int, ADD COLUMN b int UNIQUE, ADD c int", "key"},

		{"SELECT 1; ", ""},
		{"UPDATE lease SET expires = now() + $1 WHERE name = $2 AND expires <= now()", ""},
		{"SELECT coalesce(current_setting('fsync', true), 'on'), clock_timestamp()", ""},
		{"INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = $2", ""},
		{"UPDATE writer SET at = $1 WHERE current_setting('fsync', true) IS DISTINCT FROM 'off'", ""},
		{"BEGIN", ""},
		{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ""},
		{"ROLLBACK", ""},
		{"CREATE TABLE IF NOT EXISTS usage (hour int NOT NULL, subject bigint NOT NULL, meter int, PRIMARY KEY (hour, subject, meter))", ""},
		{"CREATE TABLE usage (hour int, subject bigint UNIQUE, PRIMARY KEY (hour, subject))", ""},
		{"CREATE TABLE call (seq bigint PRIMARY KEY, price numeric(10, 2))", ""},
		{"CREATE TABLE … (LIKE usage INCLUDING ALL)", ""},
		{"CREATE TABLE t (serial_number text PRIMARY KEY, \"temporary_until\" bigint) -- not a SERIAL, and no ; REFERENCES", ""},
		{"CREATE INDEX IF NOT EXISTS client_token_at ON client_token (at)", ""},
		{"CREATE UNIQUE INDEX account_id ON account (account_id)", ""},
		{"CREATE UNIQUE INDEX call_twice ON call (seq, request)", ""},
		{"ALTER TABLE call ADD COLUMN note text", ""},
		{"INSERT INTO t (a) SELECT * FROM unnest($1::int8[]) ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.b < excluded.b RETURNING a", ""},
		{"UPDATE writer SET commits = commits + 1 WHERE id = $1 AND commits = $2", ""},
		{"UPDATE lease SET holder = 'FOR UPDATE; COPY' WHERE name = 'serial' /* LISTEN */", ""},
		{"SELECT row_number() OVER (PARTITION BY hour ORDER BY seq) FROM usage", ""},
		{"SELECT u.seq FROM unnest($1::int4[], $2::int8[]) AS k (hour, subject) JOIN usage u ON u.hour = k.hour AND u.subject = k.subject", ""},
		{"INSERT INTO call (seq, at) SELECT * FROM unnest($1::int8[], $2::int8[])", ""},
		{"UPDATE writer SET at = $1 WHERE NOT EXISTS (SELECT 1 FROM state WHERE n = 1)", ""},
		{"SELECT sum(quantity) FROM usage WHERE hour BETWEEN $1 AND $2 GROUP BY product HAVING count(*) > 1", ""},
		{"WITH k AS (SELECT 1 AS a) SELECT * FROM k", ""},
		{"SET lock_timeout = '2s'", ""},
		{"RESET lock_timeout", ""},
		{"SET TIME ZONE 'UTC'", ""},
		{"SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('enable_hashjoin')", ""},
		{" AND copy.merge = listen", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, r := range refusals(tt.sql) {
			got = append(got, r.rule)
		}
		slices.Sort(got)
		if strings.Join(slices.Compact(got), ", ") != tt.want {
			t.Errorf("%s\n got %q\nwant %q", tt.sql, got, tt.want)
		}
	}
	names := []string{"setting", "conflict", "key", "append only", "spread with local", "shards", "several statements"}
	for _, r := range rules {
		names = append(names, r.rule)
	}
	for _, name := range names {
		if !slices.ContainsFunc(tests, func(tt struct{ sql, want string }) bool { return strings.Contains(tt.want, name) }) {
			t.Errorf("no text shows what the rule %q refuses", name)
		}
	}
}

// TestSubsetFinds shows that SQL is found however it is written down.
func TestSubsetFinds(t *testing.T) {
	texts, err := goTexts(map[string]string{"a.go": `package p
import "not/SELECT"
const head = "SELECT n " + from
func f(name string) error {
	const inner = head + "WHERE a = $1 "
	db.Exec(ctx, inner + "FOR " + "UPDATE")
	db.Exec(ctx, "commit")
	sql := "DROP TABLE " + name + g("LOCK TABLE x")
	sql += " CASCADE AND"
	s := fmt.Sprintf("FETCH %d FROM %s", 5, name)
	for _, lower := range []string{"listen changes"} { db.Exec(ctx, lower) }
	logged("SELECT this is said to people", nil)
	tx.CopyFrom(ctx)
	conn.PgConn().Exec(ctx, name)
	return fmt.Errorf("SELECT %w", pgx.TxOptions{IsoLevel: pgx.Serializable})
}
type t struct { A int ` + "`SELECT:\"b\"`" + ` }
func (e E) Error() string { return "UPDATE: " + e.s }
var o = pgx.TxOptions{IsoLevel: pgx.Serializable}
func h() { r.tx.Begin(ctx); pgx.BeginFunc(ctx, r.tx, nil); pgx.BeginFunc(ctx, pool, nil) }
`, "b.go": `package p
const from = "FROM t "
`})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, text := range texts {
		line := fmt.Sprintf("%s:%d %s", text.file, text.line, text.sql)
		for _, r := range text.refusals {
			line += " [" + r.rule + "]"
		}
		got = append(got, line)
	}
	want := []string{
		"a.go:3 SELECT n FROM t ",
		"a.go:5 SELECT n FROM t WHERE a = $1 ",
		"a.go:6 SELECT n FROM t WHERE a = $1 FOR UPDATE",
		"a.go:7 commit",
		"a.go:8 DROP TABLE ……",
		"a.go:8 LOCK TABLE x",
		"a.go:9  CASCADE AND",
		"a.go:10 FETCH … FROM …",
		"a.go:11 listen changes",
		"a.go:13 tx.CopyFrom [copy]",
		"a.go:14 conn.PgConn [simple protocol]",
		"a.go:19 pgx.Serializable [serializable]",
		"a.go:20 r.tx.Begin [savepoint]",
		"a.go:20 tx.Begin [savepoint]",
		"b.go:2 FROM t ",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSubsetMigrations shows that a migration is read as it is run.
func TestSubsetMigrations(t *testing.T) {
	tests := []struct {
		content string
		want    []string // by text
	}{
		{"-- one; two\nCREATE TABLE a (b int PRIMARY KEY);\n\nCREATE INDEX c ON a (b);\n", []string{"", "", ""}},
		{"CREATE TABLE a (b int PRIMARY KEY); CREATE INDEX c ON a (b);\n", []string{"several statements", ""}},
		{"-- one;\nCREATE TABLE a (b int PRIMARY KEY);\n", []string{"cut statement", "", ""}},
		{"CREATE TABLE a (b int PRIMARY KEY, c text DEFAULT ';\n');\n", []string{"cut statement", "cut statement", ""}},
		{"CREATE TABLE a (b int PRIMARY KEY);\nUPDATE a SET b = 1; DROP TABLE a", []string{"", "ddl with dml, several statements"}},
	}
	for _, tt := range tests {
		var got []string
		for _, text := range migrationTexts("0001_test.sql", tt.content) {
			var one []string
			for _, r := range append(text.refusals, refusals(text.sql)...) {
				one = append(one, r.rule)
			}
			got = append(got, strings.Join(one, ", "))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s\n got %q\nwant %q", tt.content, got, tt.want)
		}
	}
}
