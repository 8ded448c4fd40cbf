package dashboard

const (
	columns = 24
	tag     = "tocsin"
)

// The fields of Grafana's dashboard schema that are in use, in its names.
type (
	document struct {
		Annotations   annotations     `json:"annotations"`
		Description   string          `json:"description"`
		Editable      bool            `json:"editable"`
		GraphTooltip  int             `json:"graphTooltip"`
		Links         []dashboardLink `json:"links"`
		Panels        []panel         `json:"panels"`
		Refresh       string          `json:"refresh"`
		SchemaVersion int             `json:"schemaVersion"`
		Tags          []string        `json:"tags"`
		Templating    struct {
			List []variable `json:"list"`
		} `json:"templating"`
		Time     span   `json:"time"`
		Timezone string `json:"timezone"`
		Title    string `json:"title"`
		UID      string `json:"uid"`
		Version  int    `json:"version"`
	}
	annotations struct {
		List []annotation `json:"list"`
	}
	annotation struct {
		BuiltIn    int    `json:"builtIn"`
		DataSource source `json:"datasource"`
		Enable     bool   `json:"enable"`
		Hide       bool   `json:"hide"`
		IconColor  string `json:"iconColor"`
		Name       string `json:"name"`
		Type       string `json:"type"`
	}
	dashboardLink struct {
		AsDropdown  bool     `json:"asDropdown"`
		Icon        string   `json:"icon"`
		IncludeVars bool     `json:"includeVars"`
		KeepTime    bool     `json:"keepTime"`
		Tags        []string `json:"tags"`
		TargetBlank bool     `json:"targetBlank"`
		Title       string   `json:"title"`
		Tooltip     string   `json:"tooltip"`
		Type        string   `json:"type"`
	}
	source struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	span struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	current struct {
		Text  string `json:"text"`
		Value string `json:"value"`
	}
	variable struct {
		Current    *current `json:"current,omitempty"`
		DataSource *source  `json:"datasource,omitempty"`
		IncludeAll bool     `json:"includeAll"`
		Label      string   `json:"label"`
		Multi      bool     `json:"multi"`
		Name       string   `json:"name"`
		Query      any      `json:"query"`
		Refresh    int      `json:"refresh"`
		Sort       int      `json:"sort"`
		Type       string   `json:"type"`
	}
	grid struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	panel struct {
		DataSource      *source          `json:"datasource,omitempty"`
		Description     string           `json:"description,omitempty"`
		FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
		GridPos         grid             `json:"gridPos"`
		ID              int              `json:"id"`
		Options         map[string]any   `json:"options,omitempty"`
		Panels          *[]panel         `json:"panels,omitempty"`
		Targets         []target         `json:"targets,omitempty"`
		Title           string           `json:"title"`
		Transformations []transformation `json:"transformations,omitempty"`
		Type            string           `json:"type"`
	}
	fieldConfig struct {
		Defaults  fieldDefaults `json:"defaults"`
		Overrides []any         `json:"overrides"`
	}
	fieldDefaults struct {
		Color      color          `json:"color"`
		Custom     map[string]any `json:"custom"`
		Links      []dataLink     `json:"links,omitempty"`
		Max        *float64       `json:"max,omitempty"`
		Min        *float64       `json:"min,omitempty"`
		Thresholds *thresholds    `json:"thresholds,omitempty"`
		Unit       string         `json:"unit,omitempty"`
	}
	color struct {
		Mode string `json:"mode"`
	}
	dataLink struct {
		Title string `json:"title"`
		URL   string `json:"url"`
	}
	thresholds struct {
		Mode  string      `json:"mode"`
		Steps []threshold `json:"steps"`
	}
	threshold struct {
		Color string   `json:"color"`
		Value *float64 `json:"value"`
	}
	target struct {
		DataSource   source `json:"datasource"`
		EditorMode   string `json:"editorMode"`
		Expr         string `json:"expr"`
		Format       string `json:"format,omitempty"`
		Instant      bool   `json:"instant"`
		LegendFormat string `json:"legendFormat,omitempty"`
		Range        bool   `json:"range"`
		RefID        string `json:"refId"`
	}
	transformation struct {
		ID      string         `json:"id"`
		Options map[string]any `json:"options"`
	}
)
