package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints a script for a shell. The scripts ask the program for completions, so they stay right when the
// program is replaced.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help explains how the scripts are used.
func (*completionCmd) Help() string {
	return `bash:  source <(meterd completion bash)         in ~/.bashrc
zsh:   source <(meterd completion zsh)          in ~/.zshrc, after compinit
fish:  meterd completion fish | source          in ~/.config/fish/config.fish`
}

func (cmd *completionCmd) Run(c *console) error {
	_, err := io.WriteString(c.stdout, completions[cmd.Shell])
	return err
}

// completions are the scripts by shell. Each passes the words up to the cursor to complete-words; if there is no answer,
// the shell completes the names of files.
var completions = map[string]string{
	"bash": `_meterd() {
	local IFS=$'\n' line
	COMPREPLY=()
	while read -r line; do
		COMPREPLY+=("${line%%$'\t'*}")
	done < <("${COMP_WORDS[0]}" complete-words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _meterd meterd
`,
	"zsh": `#compdef meterd
_meterd() {
	local -a found
	local line
	while IFS=$'\t' read -r line help; do
		found+=("${line//:/\\:}:$help")
	done < <("${words[1]}" complete-words -- "${(@)words[2,$CURRENT]}" 2>/dev/null)
	if (( $#found )); then
		_describe meterd found
	else
		_files
	fi
}
compdef _meterd meterd
`,
	"fish": `function __meterd_words
	set -l words (commandline -opc)
	$words[1] complete-words -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c meterd -n 'test (count (__meterd_words)) -gt 0' -f -a '(__meterd_words)'
`,
}

// completeWordsCmd is the command that the scripts run. It prints what the last word can become: a candidate on each
// line, with its help after a tab. It prints nothing if the word can be the name of a file or anything else.
type completeWordsCmd struct {
	Words []string `arg:"" optional:"" help:"The words of the command line, without the program; the last one is to be completed."`
}

func (cmd *completeWordsCmd) Run(c *console, k *kong.Kong) error {
	if len(cmd.Words) == 0 {
		cmd.Words = []string{""}
	}
	for _, candidate := range candidates(k.Model.Node, cmd.Words) {
		if _, err := fmt.Fprintln(c.stdout, candidate); err != nil {
			return err
		}
	}
	return nil
}

// candidates returns what the last of the words can become, each with its help after a tab.
func candidates(node *kong.Node, words []string) []string {
	flags := slices.Clone(node.Flags)
	positionals, given := node.Positional, 0
	var asked *kong.Value // the flag whose value is the next word, or nil
	plain := false        // after "--" nothing is a flag
	for _, word := range words[:len(words)-1] {
		switch {
		case asked != nil:
			if word != "=" { // bash passes --flag=value as three words
				asked = nil
			}
		case plain || !strings.HasPrefix(word, "-") || word == "-":
			if child := commandNamed(node, word); child != nil {
				node, positionals, given = child, child.Positional, 0
				flags = append(flags, child.Flags...)
			} else {
				given++
			}
		case word == "--":
			plain = true
		default:
			if f := flag(flags, word); f != nil && !f.IsBool() && !strings.Contains(word, "=") {
				asked = f.Value
			}
		}
	}
	last := words[len(words)-1]
	if asked != nil && last == "=" {
		last = ""
	}
	name, value, assigned := strings.Cut(last, "=")
	var found []string
	add := func(candidate, help string) {
		if strings.HasPrefix(candidate, last) {
			found = append(found, candidate+"\t"+help)
		}
	}
	switch {
	case asked != nil:
		for _, v := range enum(asked) {
			add(v, "")
		}
		return found
	case assigned && !plain && strings.HasPrefix(last, "-"):
		if f := flag(flags, name); f != nil {
			for _, v := range enum(f.Value) {
				if strings.HasPrefix(v, value) {
					add(name+"="+v, "")
				}
			}
		}
		return found
	case strings.HasPrefix(last, "-") && !plain:
		for _, f := range flags {
			if !f.Hidden {
				add("--"+f.Name, brief(f.Help))
			}
		}
		return found
	}
	for _, child := range node.Children {
		if !child.Hidden {
			add(child.Name, brief(child.Help))
		}
	}
	if given < len(positionals) {
		for _, v := range enum(positionals[given]) {
			add(v, "")
		}
	}
	return found
}

func commandNamed(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && child.Name == name {
			return child
		}
	}
	return nil
}

// flag returns the flag that the word names, as --name, --name=value or -n.
func flag(flags []*kong.Flag, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for _, f := range flags {
		if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

func enum(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return strings.Split(v.Enum, ",")
}

// brief returns the first sentence of a help text.
func brief(help string) string {
	help, _, _ = strings.Cut(help, ". ")
	return strings.TrimSuffix(help, ".")
}
