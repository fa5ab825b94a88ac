package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Each connection sets the parameters that a ledger relies on, over those of the role, the database and the server's
// files. A transaction sets those that its durability relies on once more (durably). What only the server can set is
// checked in the transaction (syncs) or each second (dangers).

// allowedParameters are the server's parameters that a URL may set for meterd's connections. Parameters of extensions,
// whose names have a point, may be set too.
var allowedParameters = []string{"application_name", "idle_in_transaction_session_timeout", "lock_timeout", "role", "search_path", "statement_timeout",
	"tcp_keepalives_count", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout", "work_mem"}

// postgresConfig reads a URL, refuses what meterd does not work with, and adds what meterd needs of every connection.
// The parameters are set once the connection is made, because a pooler does not let all of them pass in the startup.
func postgresConfig(text string) (*pgx.ConnConfig, error) {
	c, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	if c.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return nil, fmt.Errorf("the URL of the database asks for default_query_exec_mode=%s, but meterd works with prepared statements only; leave it out", strings.ReplaceAll(c.DefaultQueryExecMode.String(), " ", "_"))
	}
	if c.StatementCacheCapacity < leastStatements {
		return nil, fmt.Errorf("the URL of the database sets statement_cache_capacity=%d, but meterd works with prepared statements, at least %d; leave it out", c.StatementCacheCapacity, leastStatements)
	}
	given := c.RuntimeParams
	if options, is := given["options"]; is {
		delete(given, "options")
		if err := parseOptions(options, given); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if slices.Contains(allowedParameters, name) || extensionName.MatchString(name) {
			continue
		}
		if asked := strings.Index(text, "?"); asked >= 0 && strings.Contains(unescaped(text[asked:]), "password") {
			name = "a parameter" // whose name may be a part of the password
		}
		return nil, fmt.Errorf("the URL of the database, or PGOPTIONS, sets %s, which meterd does not take there because the ledger could come to rely on it; leave it out. It takes %s, and those of extensions", name, strings.Join(allowedParameters, ", "))
	}
	session := map[string]string{
		"client_encoding":     "UTF8",
		"client_min_messages": "notice",
		"timezone":            "UTC",
		// A node that has vanished must not keep others from its keys.
		"idle_in_transaction_session_timeout": "15000",
	}
	maps.Copy(session, given)
	c.RuntimeParams = map[string]string{"application_name": "meterd"}
	if name, is := session["application_name"]; is {
		c.RuntimeParams["application_name"] = name
		delete(session, "application_name")
	}
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return begin(ctx, conn, session) }
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectPatience
	}
	return c, nil
}

// unescaped returns a text in which each %XX that can be read is replaced by its byte.
func unescaped(text string) string {
	return escape.ReplaceAllStringFunc(text, func(s string) string {
		b, _ := hex.DecodeString(s[1:]) // cannot fail: the pattern matches hexadecimal digits
		return string(b)
	})
}

var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// leastStatements is how many prepared statements a connection must have room for.
const leastStatements = 100

var (
	extensionName = regexp.MustCompile(`^[a-z_][a-z0-9_]*\.[a-z0-9_.]+$`)
	option        = regexp.MustCompile(`^(?:-c\s*|--)([a-zA-Z_][a-zA-Z0-9_.-]*)=(\S*)(?:\s+|$)`)
)

// parseOptions reads command-line flags of the server, which libpq calls options, as parameters.
func parseOptions(options string, into map[string]string) error {
	for rest := strings.TrimSpace(options); rest != ""; {
		m := option.FindStringSubmatch(rest)
		if m == nil || strings.Contains(m[2], `\`) {
			return errors.New("the URL of the database, or PGOPTIONS, has options other than -c name=value; write parameters by themselves instead, as in ?search_path=meterd")
		}
		into[strings.ReplaceAll(strings.ToLower(m[1]), "-", "_")] = m[2]
		rest = rest[len(m[0]):]
	}
	return nil
}

// begin gives a new connection its parameters.
func begin(ctx context.Context, conn *pgconn.PgConn, session map[string]string) error {
	names := slices.Sorted(maps.Keys(session))
	var calls []string
	var values [][]byte
	for i, name := range names {
		calls = append(calls, fmt.Sprintf("set_config('%s', $%d, false)", name, i+1))
		values = append(values, []byte(session[name]))
	}
	if err := conn.ExecParams(ctx, "SELECT "+strings.Join(calls, ", "), values, nil, nil, nil).Read().Err; err != nil {
		return fmt.Errorf("setting %s for the connection: %w", strings.Join(names, ", "), err)
	}
	return nil
}

// durably makes the COMMIT of the transaction that runs it wait for the disk, and for the standby's disk if there is a
// standby. It also makes the server warn when it has not waited for the standby. remote_apply, which promises more,
// stays.
const durably = "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit', true) WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true), set_config('client_min_messages', 'notice', true)"

// syncs is a condition: what the server takes for written is on its disk. Citus refuses coalesce around a setting.
const syncs = "(current_setting('fsync', true) IS DISTINCT FROM 'off' AND current_setting('full_page_writes', true) IS DISTINCT FROM 'off')"

// dangers returns an expression that lists the settings by which acknowledged records could be lost; it is empty if
// there are none. tables is the parameter that holds the names of the ledger's tables. A database that does not know a
// setting does not have its danger.
func dangers(tables string) string {
	return "concat_ws(', ', CASE WHEN current_setting('fsync', true) = 'off' THEN 'fsync=off' END, CASE WHEN current_setting('full_page_writes', true) = 'off' THEN 'full_page_writes=off' END, " +
		"CASE WHEN current_setting('data_sync_retry', true) = 'on' THEN 'data_sync_retry=on' END, CASE WHEN current_setting('zero_damaged_pages', true) = 'on' THEN 'zero_damaged_pages=on' END, " +
		"CASE WHEN current_setting('ignore_checksum_failure', true) = 'on' THEN 'ignore_checksum_failure=on' END, " +
		"(SELECT 'the table ' || min(c.relname::text) || ' is unlogged' FROM pg_class c WHERE c.relpersistence = 'u' AND c.oid = ANY (ARRAY(SELECT to_regclass(n)::oid FROM unnest(" + tables + "::text[]) AS t (n) UNION ALL SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = to_regclass('usage')))))"
}

// errUnsafe says that the database may lose what it has acknowledged.
var errUnsafe = errors.New("the database may lose what it has acknowledged")

// safe returns an error if found names dangers.
func safe(found string) error {
	if found == "" {
		return nil
	}
	return fmt.Errorf("%w: %s; set it right, and have its machine write everything to disk (the command sync) if it ran like that", errUnsafe, found)
}

// durable returns an error for a server whose commits may be lost.
func durable(ctx context.Context, conn *pgx.Conn) error {
	var found string
	if err := conn.QueryRow(ctx, "SELECT "+dangers("$1"), ledgerTables()).Scan(&found); err != nil {
		return err
	}
	return safe(found)
}

// suitable returns an error for a database that could not hold a ledger: its commits may be lost, or its encoding lacks
// characters that names may be written in.
func suitable(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	if err := conn.QueryRow(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the encoding of the database is %s, which does not store every character; a ledger needs one with UTF8, which is made with: CREATE DATABASE meterd ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0", encoding)
	}
	return durable(ctx, conn)
}

// connectPostgres makes the first connection of a process. It fails behind a pooler that gives a connection no session
// of its own. Later connections are made with the same config.
func connectPostgres(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	first := config.Copy()
	first.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return errors.Join(config.AfterConnect(ctx, conn), ownSession(ctx, conn, &config.Config))
	}
	return pgx.ConnectConfig(ctx, first)
}

var errPooled = errors.New("it is reached through a pooler that gives a connection's transactions to different sessions, as PgBouncer does with pool_mode=transaction or statement; " +
	"meterd needs sessions of its own: set pool_mode=session for it, or have it connect to PostgreSQL itself")

// ownSession fails unless a connection keeps one session of the server for as long as it lasts. There is no pooler if
// the server process that answers is the one that was named when the connection began. Else there is a pooler, and a
// second connection shows whether it is given the first one's session while the first one is idle.
func ownSession(ctx context.Context, conn *pgconn.PgConn, config *pgconn.Config) error {
	const whoAnswers = "SELECT pg_backend_pid()"
	pid, err := ask(ctx, conn, whoAnswers)
	if err != nil || pid == fmt.Sprint(conn.PID()) {
		return err
	}
	other, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("a second connection, which meterd needs: %w", err)
	}
	defer other.Close(ctx)
	if _, err := ask(ctx, other, "BEGIN"); err != nil {
		if refusedWith(err, "08P01") { // a pooler in statement mode refuses transactions
			err = errPooled
		}
		return err
	}
	second, err := ask(ctx, other, whoAnswers)
	if err != nil {
		return err
	}
	again, err := ask(ctx, conn, whoAnswers)
	if err == nil && (second == pid || again != pid) {
		err = errPooled
	}
	return err
}

// ask runs a statement and returns the first column of its first row, or "" if there is no row.
func ask(ctx context.Context, conn *pgconn.PgConn, sql string) (answer string, err error) {
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if r.Err == nil && len(r.Rows) > 0 {
		answer = string(r.Rows[0][0])
	}
	return answer, r.Err
}
