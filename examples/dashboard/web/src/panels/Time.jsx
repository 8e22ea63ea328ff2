/** A time of today as hours and minutes, else with its day. */
export function Time({ at }) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  return (
    <time dateTime={at} title={date.toLocaleString('en')}>
      {isToday ? '' : `${day.format(date)}, `}
      {clock.format(date)}
    </time>
  );
}

const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hour12: false });
const day = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' });
