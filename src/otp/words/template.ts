/** A template: a text with places for the values of a message. */

/** What a template can have a place for. */
export type Values = Readonly<{ code: string; purpose: string; lifetime: string }>;
export type Place = keyof Values;

/** A compiled template. */
export type Template = Readonly<{
  /** How often a place occurs. */
  count: (place: Place) => number;
  render: (values: Values) => string;
}>;

const PLACES: ReadonlySet<string> = new Set<Place>(['code', 'purpose', 'lifetime']);

/** Braces around a name, not around the declarations of a style sheet. */
const PLACE = /\{([^{}:;\n]*)\}/;

/**
 * Compiles the text of a template.
 *
 * @returns the template, or the names in braces that are no place
 */
export function compileTemplate(text: string): { template: Template } | { unknown: string[] } {
  // Text and name take turns; the first and the last part are text.
  const parts = text.split(PLACE);
  const names = parts.filter((_, index) => index % 2 === 1);
  const unknown = names.filter((name) => !PLACES.has(name));
  if (unknown.length > 0) return { unknown };
  return {
    template: Object.freeze({
      count: (place: Place) => names.filter((name) => name === place).length,
      render: (values: Values) => {
        let rendered = parts[0]!;
        for (let at = 1; at < parts.length; at += 2) {
          rendered += values[parts[at] as Place] + parts[at + 1]!;
        }
        return rendered;
      },
    }),
  };
}
