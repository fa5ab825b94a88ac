// Command meterd is the AWS Marketplace Metering Service that anyone can run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/store"
)

// cli is the command line. Every flag can be given as an environment variable too; help names it.
type cli struct {
	PrintVersion versionFlag `name:"version" help:"Print the version."`

	Dev     devCmd          `cmd:"" help:"Run a sandbox: a seeded marketplace with published keys and a clock you can move. Not for production."`
	Init    initCmd         `cmd:"" help:"Create the ledger of a production service, and print its first admin token."`
	Serve   serveCmd        `cmd:"" help:"Serve a ledger that meterd init has created."`
	Recover recoverTokenCmd `cmd:"" name:"recover-token" help:"Make an admin token for a ledger whose tokens are lost; one in a folder while it is not served."`
	Verify  verifyCmd       `cmd:"" help:"Recompute a ledger from its rows and say what disagrees; also beside a running server."`
	Backup  backupCmd       `cmd:"" help:"Copy the ledger of a folder into a file, also while it is served."`
	Restore restoreCmd      `cmd:"" help:"Make a ledger of a backup, in a folder that has none."`
	Loss    acceptLossCmd   `cmd:"" name:"accept-loss" help:"Give up what is missing at the end of a ledger in a folder that is refused for it, so that the rest is served again. Restore a backup instead if there is one."`
	Copy    copyCmd         `cmd:"" help:"Move a ledger between a folder and PostgreSQL, or copy it, also while it is served."`
	Health  healthcheckCmd  `cmd:"" name:"healthcheck" help:"Ask the node on this machine whether it takes calls; exit with 0 if it does, with 1 if not."`
	Admin   adminCmd        `cmd:"" help:"Administer a running service: its marketplace, identities and usage."`
	Version versionCmd      `cmd:"" help:"Print the version."`
	Help    helpCmd         `cmd:"" help:"Show how a command is used, as --help does."`

	Completion    completionCmd    `cmd:"" help:"Print a script that completes commands and flags in bash, zsh or fish."`
	CompleteWords completeWordsCmd `cmd:"" hidden:"" help:"Print what a word can become; the scripts ask this."`
}

// console is what a command may use of its surroundings.
type console struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	store.KeepPrivate()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // the live heap is the catalogue, and calls leave little garbage: memory is worth more than time
	}
	uuid.EnableRandPool() // request ids need not be secret, and each would cost a system call
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	stderr := newLineWriter(os.Stderr)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, stderr)
	stop()
	stderr.close(time.Second)
	os.Exit(code)
}

// run runs one command and returns its exit code: 0 for success, 1 for failure, 2 for a command line that is wrong.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	type exit int
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = int(e)
		default:
			panic(e)
		}
	}()
	var c cli
	parser, err := kong.New(&c, append(readers(), kong.Name("meterd"), kong.Description("The AWS Marketplace Metering Service that anyone can run."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}), kong.ValueFormatter(helpOf), kong.UsageOnError(), kong.PostBuild(helpOfVerbs))...)
	if err != nil {
		fmt.Fprintln(stderr, "meterd: internal error:", err)
		return 1
	}
	if err := checkEnvironment(parser.Model.Node, env); err != nil {
		fmt.Fprintln(stderr, "meterd:", err)
		return 2
	}
	command, err := parse(parser, args)
	if err == nil {
		err = untilTold(ctx, command, func() error { return command.Run(&console{ctx, stdin, stdout, stderr}, parser) })
	}
	var wrong *kong.ParseError // the command line's error, or that of the command that help is asked for
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintln(stderr, store.RedactedText(words(wrong)))
		return 2
	case err != nil:
		fmt.Fprintln(stderr, "meterd:", store.RedactedText(err.Error()))
		return 1
	}
	return 0
}

// told is a command that ends by itself, in its own order, when the process is told to end.
type told interface{ endsByItself() }

// breakable is a command that may be ended at any moment, as a kill does.
type breakable interface {
	left() string // what a person must know and do after such an end
}

// untilTold runs a command until it ends, or until the process is told to end. Services stop in their own order. Other
// commands have a moment to remove what they have made, unless they say that nothing has to be removed: an input that
// never ends, or a database that does not answer, must not keep the process running.
func untilTold(ctx context.Context, command *kong.Context, run func() error) error {
	target := command.Selected().Target.Addr().Interface()
	if _, service := target.(told); service {
		return run()
	}
	type end struct {
		err   error
		panic any
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		defer func() {
			e.panic = recover()
			ended <- e
		}()
		e.err = run()
	}()
	moment := 5 * time.Second
	said := "interrupted"
	if b, is := target.(breakable); is {
		moment, said = 0, "interrupted: "+b.left()
	}
	var e end
	select {
	case e = <-ended:
	case <-ctx.Done():
		select {
		case e = <-ended:
		case <-time.After(moment):
			return errors.New(said)
		}
	}
	if e.panic != nil {
		panic(e.panic)
	}
	return e.err
}

// serviceLink matches the variables that Kubernetes puts into each pod for a service whose name begins with meterd, in
// the form NAME=VALUE. The value tells such a variable from a misspelt one: METERD_PORT=4880 is no service link, but
// METERD_PORT=tcp://10.0.0.1:4880 is one.
var serviceLink = regexp.MustCompile(`^METERD(_[A-Z0-9_]+)?_(` +
	`SERVICE_HOST=[0-9a-f.:]+|` +
	`SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+|` +
	`PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*:[0-9]+|` +
	`PORT_[0-9]+_(TCP|UDP|SCTP)_(PROTO=(tcp|udp|sctp)|PORT=[0-9]+|ADDR=[0-9a-f.:]+))$`)

// checkEnvironment fails if there are METERD_ variables that no flag knows, because a misspelt one would silently have
// no effect.
func checkEnvironment(root *kong.Node, env []string) error {
	known := map[string]bool{}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			for _, e := range f.Envs {
				known[e] = true
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(root)
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "METERD_") && !strings.HasPrefix(name, "METERD_TEST_") && !known[name] && !serviceLink.MatchString(v) {
			return fmt.Errorf("no flag is set by the environment variable %s; unset it, or see meterd <command> --help for the names", name)
		}
	}
	return nil
}

// helpOf returns the help of a flag or argument, with its default and its environment variable.
func helpOf(v *kong.Value) string {
	help := kong.DefaultHelpValueFormatter(v)
	if v.Default == "" || v.IsBool() {
		return help
	}
	return fmt.Sprintf("%s Default: %s.", strings.TrimSuffix(help, ".")+".", v.Default)
}

// helpCmd is --help as a command.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command, such as: admin import."`
}

func (cmd *helpCmd) Run(k *kong.Kong) error {
	_, err := k.Parse(append(cmd.Command, "--help")) // prints, and ends the program
	return err
}

// versionFlag is the command version as a flag, as other programs have it.
type versionFlag bool

// BeforeReset prints the version and ends the program.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	err := (&versionCmd{}).Run(&console{stdout: k.Stdout})
	if err == nil {
		k.Exit(0)
	}
	return err
}

type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

// version is set by builds that know the version better than the Go toolchain does, such as that of the image, which is
// built without the repository.
var version string

// built returns the version of the program, or (devel) if it has none, and the commit that it was built from, or "" if
// that is not known.
func built() (name, revision string) {
	name = version
	if info, ok := debug.ReadBuildInfo(); ok {
		if name == "" {
			name = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	if name == "" {
		name = "(devel)"
	}
	return name, revision
}

func (v *versionCmd) Run(c *console) error {
	name, revision := built()
	if v.JSON {
		fmt.Fprintf(c.stdout, "{\"version\":%q,\"revision\":%q}\n", name, revision)
		return nil
	}
	fmt.Fprintln(c.stdout, strings.TrimSpace("meterd "+name+" "+revision))
	return nil
}
