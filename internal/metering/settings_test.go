package metering_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

func TestDefaultSettings(t *testing.T) {
	// The defaults are a decision, so they are written down twice.
	want := metering.Settings{
		ResendIdentical: "success", UnknownCustomer: "exception", DuplicateRecordID: true, MixedIdentifiers: "refuse",
		BatchWindow: 24 * time.Hour, WindowFromHour: false, MonthClose: 6 * time.Hour, MonthGrace: false,
		MeterWindow: 6 * time.Hour, FutureTolerance: 5 * time.Minute, FinalWindow: time.Hour, TokenLife: 4 * time.Hour,
		ConflictStatus: 409, DryRun: "success", DryRunStatus: 400, DryRunDenied: "unauthorized", PublisherPreview: true, SuspendedWorkloads: "refuse", SaaSWorkloads: "refuse", AgentCoreTags: "refuse", ClaimsPascalCase: true,
	}
	if got := *metering.DefaultSettings(); got != want {
		t.Errorf("the defaults are\n%+v, want\n%+v", got, want)
	}
}

func TestSettingDocs(t *testing.T) {
	byName := map[string]bool{}
	for _, d := range metering.SettingDocs() {
		if d.Name == "" || byName[d.Name] || strings.ToLower(d.Name) != d.Name || strings.Contains(d.Name, " ") {
			t.Errorf("setting name %q: want lower case, with hyphens, once", d.Name)
		}
		byName[d.Name] = true
		if !strings.HasSuffix(d.Doc, ".") || d.Source == "" {
			t.Errorf("setting %s is not documented: doc %q, source %q", d.Name, d.Doc, d.Source)
		}
		if d.Values != nil && (len(d.Values) < 2 || !slices.Contains(d.Values, d.Default)) {
			t.Errorf("setting %s: the default %q is not one of %q", d.Name, d.Default, d.Values)
		}
		if d.Values == nil {
			if v, err := time.ParseDuration(d.Default); err != nil || metering.FormatDuration(v) != d.Default {
				t.Errorf("setting %s: the default %q is not how a duration is written", d.Name, d.Default)
			}
		}
		if err := metering.DefaultSettings().Set(d.Name, d.Default); err != nil {
			t.Errorf("setting %s does not take its default: %v", d.Name, err)
		}
	}
}

// Each field of Settings is set by one documented setting, and by no other.
func TestEachSettingHasItsField(t *testing.T) {
	defaults := reflect.ValueOf(*metering.DefaultSettings())
	setBy := map[string]string{}
	for _, d := range metering.SettingDocs() {
		other := "17m"
		for _, v := range d.Values {
			if v != d.Default {
				other = v
			}
		}
		s := metering.DefaultSettings()
		if err := s.Set(d.Name, other); err != nil {
			t.Errorf("setting %s=%s: %v", d.Name, other, err)
			continue
		}
		var changed []string
		for i := range defaults.NumField() {
			if !defaults.Field(i).Equal(reflect.ValueOf(*s).Field(i)) {
				changed = append(changed, defaults.Type().Field(i).Name)
			}
		}
		if len(changed) != 1 || setBy[changed[0]] != "" {
			t.Errorf("setting %s=%s changes %v; fields set before: %v", d.Name, other, changed, setBy)
			continue
		}
		setBy[changed[0]] = d.Name
		if err := s.Set(d.Name, d.Default); err != nil || *s != *metering.DefaultSettings() {
			t.Errorf("setting %s cannot be set back to %s: %v", d.Name, d.Default, err)
		}
	}
	for i := range defaults.NumField() {
		if name := defaults.Type().Field(i).Name; setBy[name] == "" {
			t.Errorf("no setting sets the field %s", name)
		}
	}
}

func TestSettingsRefuse(t *testing.T) {
	for _, d := range metering.SettingDocs() {
		bad := []string{"", "bogus", d.Default + " ", strings.ToUpper(d.Default) + "X"}
		if d.Values == nil {
			bad = append(bad, "6", "-1h", "744h1m", "1d", "1h;")
		} else {
			bad = append(bad, "1h", d.Default+"?")
		}
		for _, value := range bad {
			s := metering.DefaultSettings()
			err := s.Set(d.Name, value)
			if err == nil {
				t.Errorf("setting %s takes %q", d.Name, value)
				continue
			}
			mend := d.Default
			if d.Values != nil {
				mend = strings.Join(d.Values, " or ")
			}
			if !strings.Contains(err.Error(), d.Name) || !strings.Contains(err.Error(), mend) {
				t.Errorf("setting %s=%q: %q does not name the setting and what it takes (%s)", d.Name, value, err, mend)
			}
			if *s != *metering.DefaultSettings() {
				t.Errorf("setting %s=%q is refused, and yet changes the settings", d.Name, value)
			}
		}
	}
	if err := metering.DefaultSettings().Set("bath-window", "6h"); err == nil || !strings.Contains(err.Error(), `"bath-window"`) {
		t.Errorf("a setting that does not exist: %v", err)
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 5 * time.Minute: "5m", 0: "0s",
		30 * time.Second: "30s", time.Hour + 30*time.Second: "1h0m30s", 100 * time.Minute: "1h40m", 10 * time.Hour: "10h", 20 * time.Minute: "20m"} {
		if got := metering.FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %s, want %s", d, got, want)
		}
	}
}
