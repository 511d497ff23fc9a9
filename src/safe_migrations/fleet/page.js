"use strict";
{
  const table = document.querySelector("table");
  const form = document.querySelector("form");
  const search = form.querySelector("input");
  const states = [...form.querySelectorAll("button")];
  const services = [...table.tBodies];
  const texts = new Map(services.map((service) => [service, textOf(service)]));
  const collator = new Intl.Collator("en", { numeric: true });

  /** What can be found: the row and the headline, which names the pending revisions. */
  function textOf(service) {
    return `${service.rows[0].textContent} ${service.querySelector("summary").textContent}`.toLowerCase();
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = states.filter((button) => button.ariaPressed === "true").map((button) => button.dataset.state);
    let shown = 0;
    for (const service of services) {
      const matches = words.every((word) => texts.get(service).includes(word));
      service.hidden = !(matches && (!pressed.length || pressed.includes(service.dataset.state)));
      shown += !service.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${services.length} services`;
    document.querySelector("#no-match").hidden = shown > 0;
  }

  function sort(column, direction) {
    const valueOf = (service) => {
      const cell = service.rows[0].cells[column];
      return cell.dataset.value ?? cell.textContent.trim();
    };
    services.sort((one, other) => direction * collator.compare(valueOf(one), valueOf(other)));
    table.append(...services);
  }

  for (const [column, title] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    title.append(button);
    button.addEventListener("click", () => {
      const ascending = title.ariaSort !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(column, ascending ? 1 : -1);
    });
  }
  for (const button of states) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.ariaPressed !== "true"));
      filter();
    });
  }
  for (const service of services) {
    service.rows[0].addEventListener("click", () => {
      if (getSelection().isCollapsed) service.querySelector("details").toggleAttribute("open");
    });
  }
  search.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
}
