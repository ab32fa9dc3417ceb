/**
 * Throughput relative to the floor as an SVG chart with a logarithmic scale, one panel for each
 * workload. A bar above the line of the floor is faster, a bar below it slower.
 */
import { groupBy } from './summary.ts';
import type { SummaryRow } from './summary.ts';

const BAR_PX = 16;
const GROUP_GAP_PX = 18;
const PANEL_GAP_PX = 34;
const LEFT_PX = 52;
const TOP_PX = 64;
const PLOT_PX = 260;
const BOTTOM_PX = 56;
/** The scale: from 1/16 to 8 times the floor. */
const OCTAVE_MIN = -4;
const OCTAVE_MAX = 3;
const WIDTH_MIN_PX = 480;

const SERIES: readonly string[] = ['otpd', 'bare', 'textbook', 'parts'];

/** The colours are legible on white and on black; the text follows the theme of the reader. */
export const STYLE = `<style>
  text { font: 12px system-ui, sans-serif; fill: #333; }
  .title { font-size: 14px; font-weight: 600; }
  .grid { stroke: #8884; } .floor { stroke: #888; stroke-width: 1.5; }
  .otpd { fill: #2f74c0; } .bare { fill: #7a9e5f; } .textbook { fill: #a0a0a0; }
  .parts { fill: #c9a227; }
  @media (prefers-color-scheme: dark) { text { fill: #ddd; } }
</style>`;

/** The vertical position of a ratio, to a tenth of a pixel. */
function heightOf(ratio: number): number {
  const octave = Math.min(OCTAVE_MAX, Math.max(OCTAVE_MIN, Math.log2(ratio)));
  const height = TOP_PX + (PLOT_PX * (OCTAVE_MAX - octave)) / (OCTAVE_MAX - OCTAVE_MIN);
  return Math.round(height * 10) / 10;
}

/** Draws every row that has a ratio to the floor. */
export function composeChart(rows: readonly SummaryRow[]): string {
  const shown = rows.filter(({ ratio, target }) => ratio !== null && target !== 'floor');
  const panels = groupBy(shown, ({ workload }) => workload);
  let x = LEFT_PX;
  const drawn = [...panels].map(([workload, own]) => {
    const panel = drawPanel(workload, own, x);
    x += panel.widthPx + PANEL_GAP_PX;
    return panel.svg;
  });
  const width = Math.max(x, WIDTH_MIN_PX);
  const height = TOP_PX + PLOT_PX + BOTTOM_PX;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"
  width="${width}" height="${height}" role="img" aria-label="Throughput relative to the floor">
${STYLE}
<text class="title" x="8" y="20">Throughput relative to the floor (one durable INSERT)</text>
${legend()}
${scale(width)}
${drawn.join('\n')}
</svg>
`;
}

function legend(): string {
  return SERIES.map((name, index) => {
    const x = 8 + index * 90;
    return `<rect class="${name}" x="${x}" y="30" width="12" height="12"/>` +
      `<text x="${x + 17}" y="40">${name}</text>`;
  }).join('');
}

function scale(width: number): string {
  const octaves = Array.from({ length: OCTAVE_MAX - OCTAVE_MIN + 1 }, (_, i) => OCTAVE_MIN + i);
  return octaves.map((octave) => {
    const y = heightOf(2 ** octave);
    const label = octave < 0 ? `1/${2 ** -octave}` : `${2 ** octave} x`;
    return `<line class="${octave === 0 ? 'floor' : 'grid'}" x1="${LEFT_PX - 8}" ` +
      `x2="${width - 8}" y1="${y}" y2="${y}"/>` +
      `<text x="${LEFT_PX - 12}" y="${y + 4}" text-anchor="end">${label}</text>`;
  }).join('\n');
}

function drawPanel(workload: string, rows: readonly SummaryRow[], left: number) {
  const groups = groupBy(rows, ({ connections }) => String(connections));
  let x = left;
  const parts: string[] = [];
  for (const [connections, group] of groups) {
    parts.push(drawGroup(connections, group, x));
    x += group.length * BAR_PX + GROUP_GAP_PX;
  }
  const widthPx = Math.max(x - GROUP_GAP_PX - left, 8 * workload.length);
  const middle = left + widthPx / 2;
  parts.push(`<text class="title" x="${middle}" y="${TOP_PX + PLOT_PX + 42}" ` +
    `text-anchor="middle">${workload}</text>`);
  return { svg: parts.join('\n'), widthPx };
}

function drawGroup(connections: string, group: readonly SummaryRow[], left: number): string {
  const middle = left + (group.length * BAR_PX) / 2;
  const zero = heightOf(1);
  const bars = group.map(({ target, ratio }, index) => {
    const y = heightOf(ratio ?? 1);
    return `<rect class="${target}" x="${left + index * BAR_PX + 1}" y="${Math.min(y, zero)}" ` +
      `width="${BAR_PX - 2}" height="${Math.max(1, Math.abs(zero - y)).toFixed(1)}">` +
      `<title>${target}: ${(ratio ?? 0).toFixed(2)} x</title></rect>`;
  });
  return `${bars.join('')}<text x="${middle}" y="${TOP_PX + PLOT_PX + 20}" ` +
    `text-anchor="middle">${connections}</text>`;
}
